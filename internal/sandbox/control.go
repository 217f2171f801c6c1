package sandbox

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/sizing"
)

// Pause freezes every process of the container.
func (c *Container) Pause(ctx context.Context) error {
	if err := c.init.life.expect(Running, "pause"); err != nil {
		return err
	}
	if _, err := c.task().Pause(ctx, &task.PauseRequest{ID: c.ID}); err != nil {
		return err
	}
	c.init.life.to(Paused)
	return nil
}

// Resume lets a paused container go on.
func (c *Container) Resume(ctx context.Context) error {
	if err := c.init.life.expect(Paused, "resume"); err != nil {
		return err
	}
	if _, err := c.task().Resume(ctx, &task.ResumeRequest{ID: c.ID}); err != nil {
		return err
	}
	c.init.life.to(Running)
	return nil
}

// Pids lists the container's processes by their ids in the guest.
func (c *Container) Pids(ctx context.Context) (*task.PidsResponse, error) {
	return c.task().Pids(ctx, &task.PidsRequest{ID: c.ID})
}

// Stats returns the container's cgroup v2 metrics.
func (c *Container) Stats(ctx context.Context) (*task.StatsResponse, error) {
	return c.task().Stats(ctx, &task.StatsRequest{ID: c.ID})
}

// Update changes the container's resource limits, and the size of the machine
// with them: where more is needed, before the guest is told, and where less is,
// afterwards. An update that cannot be met changes nothing.
func (c *Container) Update(ctx context.Context, r *task.UpdateTaskRequest) error {
	var host specs.LinuxResources
	if err := json.Unmarshal(r.GetResources().GetValue(), &host); err != nil {
		return fmt.Errorf("update container %s: resources: %w: %w", c.ID, err, errdefs.ErrInvalidArgument)
	}
	guest, err := oci.GuestResources(&host)
	if err != nil {
		return fmt.Errorf("update container %s: %w", c.ID, err)
	}
	s := c.sandbox
	s.resizing.Lock()
	defer s.resizing.Unlock()
	undo, err := s.replan(c, &host)
	if err != nil {
		return fmt.Errorf("update container %s: %w", c.ID, err)
	}
	if err := s.update(ctx, c, guest); err != nil {
		undo()
		logError("take huge pages back", s.opts.ID, s.reservePages(context.WithoutCancel(ctx)))
		s.shrink(context.WithoutCancel(ctx))
		logError("limit the processes of the sandbox", s.opts.ID, s.limitHost(false))
		return fmt.Errorf("update container %s: %w", c.ID, err)
	}
	s.shrink(ctx)
	return s.limitHost(false)
}

// update makes room, on the host too, and has the guest change its limits.
func (s *Sandbox) update(ctx context.Context, c *Container, guest *specs.LinuxResources) error {
	if err := s.limitHost(false); err != nil {
		return err
	}
	if err := s.grow(ctx); err != nil {
		return err
	}
	if err := s.reservePages(ctx); err != nil {
		return err
	}
	data, err := json.Marshal(guest)
	if err != nil {
		return fmt.Errorf("encode resources: %w", err)
	}
	_, err = c.task().Update(ctx, &task.UpdateTaskRequest{ID: c.ID, Resources: &anypb.Any{TypeUrl: resourcesType, Value: data}})
	return err
}

// resourcesType is containerd's name for the resources of an OCI spec in JSON.
const resourcesType = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"

// replan changes what a container may use, unless no machine could meet it.
func (s *Sandbox) replan(c *Container, r *specs.LinuxResources) (undo func(), err error) {
	if err := checkPages(r); err != nil {
		return nil, err
	}
	before := sizing.Sum(s.demands()...)
	old, oldPages := c.demand, c.pages
	pages := oldPages
	if r.HugepageLimits != nil {
		pages = hugePagesOf(r)
	}
	set := func(d sizing.Demand, p hugePages) {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.demand, c.pages = d, p
	}
	set(old.With(r), pages)
	if err := s.opts.Sizing.Check(before, sizing.Sum(s.demands()...)); err != nil {
		set(old, oldPages)
		return nil, err
	}
	return func() { set(old, oldPages) }, nil
}
