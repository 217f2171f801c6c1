package main

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/record"
)

// description is a container as JSON shows it.
type description struct {
	*record.Record
	State    string       `json:"state"`
	PID      int          `json:"pid,omitempty"`
	Started  *time.Time   `json:"started,omitempty"`
	Exit     *record.Exit `json:"exit,omitempty"`
	StateDir string       `json:"stateDir"`
	LogPath  string       `json:"logPath"`
	Spec     *specs.Spec  `json:"spec,omitempty"`
}

func describe(s *engine.Status) description {
	d := description{
		Record: s.Record, State: s.State, PID: s.PID, Exit: s.Exit,
		StateDir: s.Dir.Path(), LogPath: s.Dir.ContainerLog(),
	}
	if !s.Started.IsZero() {
		d.Started = &s.Started
	}
	return d
}

func describeAll(list []*engine.Status) []description {
	all := make([]description, 0, len(list))
	for _, s := range list {
		all = append(all, describe(s))
	}
	return all
}

func newInspectCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect CONTAINER [CONTAINER…]",
		Short: "Show everything known about containers, as JSON",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []description
			for _, ref := range args {
				dir, err := a.find(ref)
				if err != nil {
					return err
				}
				status, err := a.engine.Status(cmd.Context(), dir)
				if err != nil {
					return err
				}
				d := describe(status)
				if d.Spec, err = engine.Spec(dir); err != nil {
					return err
				}
				all = append(all, d)
			}
			return printJSON(cmd.OutOrStdout(), all)
		},
	}
}
