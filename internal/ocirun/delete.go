package ocirun

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/hook"
	"dougong.dev/dougong/internal/network"
	"dougong.dev/dougong/internal/record"
)

// Delete removes a container that has ended or was never started; with force
// any, and one that is not there is no error then.
func (r *Runtime) Delete(ctx context.Context, id string, force bool) error {
	dir, err := r.Engine.Root.Get(id)
	if err != nil {
		if force && errdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
	state, err := r.stateOf(ctx, dir)
	if err != nil && !force {
		return err
	}
	if err == nil && !force && (state.Status == Running || state.Status == Paused) {
		return fmt.Errorf("cannot delete container %s that is not stopped: %s; stop it first, or give --force: %w", id, state.Status, errdefs.ErrFailedPrecondition)
	}
	if err := end(ctx, dir); err != nil {
		return err
	}
	if err := cgroup.Clear(dir.Path()); err != nil {
		return err
	}
	if err := restoreNetwork(dir); err != nil {
		return err
	}
	poststop(ctx, dir)
	return dir.Remove()
}

// restoreNetwork gives the network namespace that a container was given back as
// it was, where its sandbox process could not.
func restoreNetwork(dir record.Dir) error {
	if rec, err := dir.Record(); err == nil && rec.Sandbox != "" {
		// It is another container's.
		return nil
	}
	spec, err := engine.Spec(dir)
	if err != nil || spec.Linux == nil {
		return nil
	}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace && ns.Path != "" {
			return network.Restore(ns.Path)
		}
	}
	return nil
}

// end stops what is left of a sandbox and waits for the end of its process.
func end(ctx context.Context, dir record.Dir) error {
	if client, err := engine.Dial(dir); err == nil {
		defer client.Close()
		_, err := client.Task.Shutdown(ctx, &task.ShutdownRequest{ID: dir.ID, Now: true})
		if err != nil && !errdefs.IsUnavailable(err) {
			return fmt.Errorf("end container %s: %w", dir.ID, err)
		}
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for dir.Alive() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// poststop runs the hooks after the end. What they say cannot be changed by
// anybody, so it is only noted.
func poststop(ctx context.Context, dir record.Dir) {
	spec, err := engine.Spec(dir)
	if err != nil || spec.Hooks == nil {
		return
	}
	rec, err := dir.Record()
	if err != nil || rec.Given == "" {
		return
	}
	state := hook.State(dir.ID, rec.Given, 0, specs.StateStopped, spec)
	if err := hook.Run(ctx, hook.Poststop, spec.Hooks.Poststop, state); err != nil {
		slog.Warn("after the end", "error", err)
	}
}
