package main

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"
)

func newCheckpointCommand() *cobra.Command { return newUnimplemented("checkpoint") }
func newRestoreCommand() *cobra.Command    { return newUnimplemented("restore") }

// newUnimplemented is a command that callers of OCI runtimes may try, whatever
// flags they give.
func newUnimplemented(name string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: "Not implemented yet", Hidden: true, DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("%s: checkpoints of containers are not implemented: %w", name, errdefs.ErrNotImplemented)
		},
	}
}
