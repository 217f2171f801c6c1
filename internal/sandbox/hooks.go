package sandbox

import (
	"context"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/hook"
)

// runHooks runs the container's hooks of some kinds on the host. The process
// that they are told is this one: those of the container are the guest's.
func (c *Container) runHooks(ctx context.Context, status specs.ContainerState, kinds ...string) error {
	if c.hooks == nil {
		return nil
	}
	pid := os.Getpid()
	if status == specs.StateStopped {
		pid = 0
	}
	state := hook.State(c.ID, c.Bundle, pid, status, &specs.Spec{Annotations: c.annotations})
	for _, kind := range kinds {
		if err := hook.Run(ctx, kind, hook.Of(c.hooks, kind), state); err != nil {
			return err
		}
	}
	return nil
}
