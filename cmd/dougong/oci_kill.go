package main

import (
	"cmp"
	"context"
	"fmt"

	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/ocirun"
)

// killGiven sends a signal to a container made of a bundle: kill ID [SIGNAL].
func killGiven(ctx context.Context, r *ocirun.Runtime, args []string, name string, all bool) error {
	if len(args) > 2 {
		return fmt.Errorf("kill: want one container that was made of a bundle, and a signal: got %q", args)
	}
	if len(args) == 2 {
		name = args[1]
	}
	signal, err := oci.ParseSignal(cmp.Or(name, "TERM"))
	if err != nil {
		return err
	}
	return r.Kill(ctx, args[0], uint32(signal), all)
}
