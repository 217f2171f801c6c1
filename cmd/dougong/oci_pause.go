package main

import (
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/ocirun"
)

func newPauseCommand(a *app) *cobra.Command {
	return newVerb("pause ID", "Freeze all processes of a container", a, func(cmd *cobra.Command, r *ocirun.Runtime, id string) error {
		return r.Pause(cmd.Context(), id)
	})
}

func newResumeCommand(a *app) *cobra.Command {
	return newVerb("resume ID", "Let a paused container go on", a, func(cmd *cobra.Command, r *ocirun.Runtime, id string) error {
		return r.Resume(cmd.Context(), id)
	})
}
