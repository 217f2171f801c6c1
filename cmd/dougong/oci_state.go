package main

import (
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/ocirun"
)

func newStateCommand(a *app) *cobra.Command {
	return newVerb("state ID", "Print the state of a container as JSON", a, func(cmd *cobra.Command, r *ocirun.Runtime, id string) error {
		state, err := r.State(cmd.Context(), id)
		if err != nil {
			return err
		}
		return printJSON(cmd.OutOrStdout(), state)
	})
}
