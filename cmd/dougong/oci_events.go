package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/ocirun"
)

func newEventsCommand(a *app) *cobra.Command {
	var stats bool
	var interval time.Duration
	cmd := newVerb("events [flags] ID", "Print what a container uses, as JSON, again and again", a, func(cmd *cobra.Command, r *ocirun.Runtime, id string) error {
		if interval <= 0 {
			return fmt.Errorf("--interval %v: want more than nothing", interval)
		}
		out := json.NewEncoder(cmd.OutOrStdout())
		return r.Events(cmd.Context(), id, stats, interval, func(e ocirun.Event) error { return out.Encode(e) })
	})
	cmd.Flags().BoolVar(&stats, "stats", false, "print it once")
	cmd.Flags().DurationVar(&interval, "interval", 5*time.Second, "time between two looks")
	return cmd
}
