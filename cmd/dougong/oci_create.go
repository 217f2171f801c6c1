package main

import (
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/ocirun"
)

func newCreateCommand(a *app) *cobra.Command {
	var b bundleFlags
	cmd := newVerb("create [flags] ID", "Make a container of an OCI bundle; 'start' runs it", a, func(cmd *cobra.Command, r *ocirun.Runtime, id string) error {
		o, err := b.options(id)
		if err != nil {
			return err
		}
		c, err := r.Create(cmd.Context(), o)
		if err != nil {
			return err
		}
		return c.Leave()
	})
	b.register(cmd.Flags(), ".")
	return cmd
}
