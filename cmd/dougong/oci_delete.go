package main

import (
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/ocirun"
)

func newDeleteCommand(a *app) *cobra.Command {
	var force bool
	cmd := newVerb("delete [flags] ID", "Remove a container that has ended", a, func(cmd *cobra.Command, r *ocirun.Runtime, id string) error {
		return r.Delete(cmd.Context(), id, force)
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill a running container first; a missing one is no error")
	return cmd
}
