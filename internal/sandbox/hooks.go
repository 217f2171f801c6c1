package sandbox

import (
	"context"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/hook"
)

// runHooks runs the container's hooks of some kinds on the host. The process
// that they are told stands for the container, or is this one: those of the
// container are the guest's.
func (c *Container) runHooks(ctx context.Context, status specs.ContainerState, kinds ...string) error {
	if c.hooks == nil {
		return nil
	}
	pid, err := c.hookPID(status)
	if err != nil {
		return err
	}
	state := hook.State(c.ID, c.Bundle, pid, status, &specs.Spec{Annotations: c.annotations})
	for _, kind := range kinds {
		if err := hook.Run(ctx, kind, hook.Of(c.hooks, kind), state); err != nil {
			return err
		}
	}
	return nil
}

func (c *Container) hookPID(status specs.ContainerState) (int, error) {
	switch {
	case status == specs.StateStopped:
		return 0, nil
	case c.hostPID == nil:
		return os.Getpid(), nil
	}
	return c.hostPID(c)
}
