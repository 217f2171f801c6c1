package ocirun

import (
	"context"
	"fmt"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/record"
)

// RunOptions say how a container is run from its creation to its end.
type RunOptions struct {
	CreateOptions
	// Detach leaves the container alone once it runs; Keep does not delete it
	// after its end.
	Detach, Keep bool
}

// Run creates and starts a container. Unless it is left alone, it is deleted
// after its end, and its exit status comes back as an engine.ExitError.
func (r *Runtime) Run(ctx context.Context, o RunOptions) error {
	_, spec, err := readBundle(o.Bundle)
	if err != nil {
		return engine.EngineError(err)
	}
	relay := new(relay)
	if spec.Process.Terminal && o.ConsoleSocket == "" && !o.Detach {
		if relay, err = newRelay(); err != nil {
			return engine.EngineError(err)
		}
		defer relay.close()
		o.ConsoleSocket = relay.socket
	}
	c, err := r.Create(ctx, o.CreateOptions)
	if err != nil {
		return engine.CommandError(err)
	}
	if err := c.Sandbox.Start(ctx); err != nil {
		c.discard(ctx)
		return engine.CommandError(err)
	}
	if o.Detach {
		return engine.EngineError(c.Leave())
	}
	return r.follow(ctx, c, o, relay)
}

// follow stays with a container until its end.
func (r *Runtime) follow(ctx context.Context, c *Container, o RunOptions, relay *relay) error {
	// If we are killed, the container goes on, as those of other runtimes do.
	if err := c.Sandbox.Release(); err != nil {
		return engine.EngineError(err)
	}
	stop := engine.ForwardSignals(ctx, c.Sandbox.Client, o.ID, "")
	defer stop()
	relay.begin(ctx)
	if _, err := c.Sandbox.Wait(ctx, o.ID, ""); err != nil {
		return engine.EngineError(fmt.Errorf("wait for container %s: %w", o.ID, err))
	}
	c.standIn.Wait()
	relay.drain()
	exit, err := c.exit(ctx)
	if err != nil {
		return engine.EngineError(err)
	}
	if !o.Keep {
		if err := r.Delete(ctx, o.ID, true); err != nil {
			return engine.EngineError(err)
		}
	}
	switch {
	case exit.Error != "":
		return &engine.ExitError{Code: exit.Status, Err: fmt.Errorf("container %s: %s", o.ID, exit.Error)}
	case exit.Status != 0:
		return &engine.ExitError{Code: exit.Status}
	}
	return nil
}

// exit returns how the container ended, once its sandbox is gone.
func (c *Container) exit(ctx context.Context) (*record.Exit, error) {
	if err := end(ctx, c.Sandbox.Dir); err != nil {
		return nil, err
	}
	return c.Sandbox.Dir.Exit()
}
