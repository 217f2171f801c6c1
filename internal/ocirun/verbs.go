package ocirun

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"dougong.dev/dougong/internal/engine"
)

// call does something with the sandbox of a container.
func (r *Runtime) call(id, what string, f func(*engine.Client) error) error {
	_, client, err := r.dial(id)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := f(client); err != nil {
		return fmt.Errorf("%s container %s: %w", what, id, err)
	}
	return nil
}

// Start runs the process of a created container.
func (r *Runtime) Start(ctx context.Context, id string) error {
	return r.call(id, "start", func(c *engine.Client) error {
		_, err := c.Task.Start(ctx, &task.StartRequest{ID: id})
		return err
	})
}

// Kill sends a signal to the first process of a container, or to all. To all
// of one that has ended is no error.
func (r *Runtime) Kill(ctx context.Context, id string, signal uint32, all bool) error {
	_, client, err := r.dial(id)
	if err != nil {
		if all && errdefs.IsFailedPrecondition(err) {
			return nil
		}
		return err
	}
	defer client.Close()
	_, err = client.Task.Kill(ctx, &task.KillRequest{ID: id, Signal: signal, All: all})
	switch {
	case errdefs.IsNotFound(err):
		return fmt.Errorf("container not running: %s: %w", id, errdefs.ErrFailedPrecondition)
	case err != nil:
		return fmt.Errorf("kill container %s: %w", id, err)
	}
	return nil
}

// Pause freezes a container.
func (r *Runtime) Pause(ctx context.Context, id string) error {
	return r.call(id, "pause", func(c *engine.Client) error {
		_, err := c.Task.Pause(ctx, &task.PauseRequest{ID: id})
		return err
	})
}

// Resume lets a paused container go on.
func (r *Runtime) Resume(ctx context.Context, id string) error {
	return r.call(id, "resume", func(c *engine.Client) error {
		_, err := c.Task.Resume(ctx, &task.ResumeRequest{ID: id})
		return err
	})
}

// resourcesType is the name under which containerd sends resources.
const resourcesType = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"

// Update changes the limits of a container.
func (r *Runtime) Update(ctx context.Context, id string, resources *specs.LinuxResources) error {
	value, err := json.Marshal(given(resources))
	if err != nil {
		return fmt.Errorf("encode resources: %w", err)
	}
	return r.call(id, "update", func(c *engine.Client) error {
		_, err := c.Task.Update(ctx, &task.UpdateTaskRequest{ID: id, Resources: &anypb.Any{TypeUrl: resourcesType, Value: value}})
		return err
	})
}

// given leaves out what is 0, which asks for no change: Docker sends all fields,
// those among them that cgroups of version 2 do not have.
func given(r *specs.LinuxResources) *specs.LinuxResources {
	out := *r
	if r.Memory != nil {
		m := *r.Memory
		//nolint:staticcheck // Kernel memory is deprecated, but Docker still sends it.
		for _, p := range []**int64{&m.Limit, &m.Reservation, &m.Swap, &m.Kernel, &m.KernelTCP} {
			dropZero(p)
		}
		dropZero(&m.Swappiness)
		out.Memory = &m
	}
	if r.CPU != nil {
		c := *r.CPU
		for _, p := range []**uint64{&c.Shares, &c.Period, &c.RealtimePeriod, &c.Burst} {
			dropZero(p)
		}
		for _, p := range []**int64{&c.Quota, &c.RealtimeRuntime} {
			dropZero(p)
		}
		out.CPU = &c
	}
	if r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit == 0 {
		out.Pids = nil
	}
	if r.BlockIO != nil {
		b := *r.BlockIO
		dropZero(&b.Weight)
		out.BlockIO = &b
	}
	return &out
}

func dropZero[T int64 | uint64 | uint16](p **T) {
	if *p != nil && **p == 0 {
		*p = nil
	}
}

// Process is one in a container. Its id is that of a process of the host which
// stands for it, for a short while if it is not the first.
type Process struct {
	PID, UID int
	Args     []string
}

// Processes lists the processes of a container.
func (r *Runtime) Processes(ctx context.Context, id string) ([]Process, error) {
	var list []Process
	return list, r.call(id, "list processes of", func(c *engine.Client) error {
		resp, err := c.Task.Pids(ctx, &task.PidsRequest{ID: id})
		for _, p := range resp.GetProcesses() {
			list = append(list, described(p))
		}
		return err
	})
}

// described reads what the guest says of a process. What makes no sense is left out.
func described(p *tasktypes.ProcessInfo) Process {
	var d specs.Process
	_ = json.Unmarshal(p.GetInfo().GetValue(), &d)
	return Process{PID: int(p.Pid), UID: int(d.User.UID), Args: d.Args}
}
