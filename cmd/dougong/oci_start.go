package main

import (
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/ocirun"
)

func newStartCommand(a *app) *cobra.Command {
	return newVerb("start ID", "Run the process of a created container", a, func(cmd *cobra.Command, r *ocirun.Runtime, id string) error {
		return r.Start(cmd.Context(), id)
	})
}
