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

// runtimeHooks runs those that come before the machine: they fill the network
// namespace.
func (c *Container) runtimeHooks(ctx context.Context) error {
	c.prepared = true
	return c.runHooks(ctx, specs.StateCreating, hook.Prestart, hook.CreateRuntime)
}

// creationHooks runs the rest of those that belong to the making of a container,
// which for one that joins a machine is all of them.
func (c *Container) creationHooks(ctx context.Context) error {
	if !c.prepared {
		if err := c.runtimeHooks(ctx); err != nil {
			return err
		}
	}
	return c.runHooks(ctx, specs.StateCreating, hook.CreateContainer)
}

// giveUp runs the hooks that undo what those of a container's making have done.
func (c *Container) giveUp(ctx context.Context) {
	if c.prepared {
		logError("after the end", c.sandbox.opts.ID, c.runHooks(context.WithoutCancel(ctx), specs.StateStopped, hook.Poststop))
	}
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
