package main

import (
	"context"
	"errors"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/ocirun"
)

// runBundle runs a container of a bundle, as OCI runtimes do.
func (a *app) runBundle(ctx context.Context, o *runOptions, args []string) error {
	if len(args) != 1 {
		return engine.EngineError(errors.New("with --bundle, the id of the container is the only argument; its command is in the bundle"))
	}
	r, err := a.runtime()
	if err != nil {
		return engine.EngineError(err)
	}
	create, err := o.bundle.options(args[0])
	if err != nil {
		return engine.EngineError(err)
	}
	return r.Run(ctx, ocirun.RunOptions{CreateOptions: create, Detach: o.detach, Keep: o.keep})
}
