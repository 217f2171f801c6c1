package sandbox

import (
	"context"

	"github.com/containerd/containerd/api/runtime/task/v3"
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

// Update changes the container's resource limits in the guest.
func (c *Container) Update(ctx context.Context, r *task.UpdateTaskRequest) error {
	_, err := c.task().Update(ctx, r)
	return err
}
