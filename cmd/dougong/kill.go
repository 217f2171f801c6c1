package main

import (
	"fmt"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/oci"
)

func newKillCommand(a *app) *cobra.Command {
	var name string
	var all bool
	cmd := &cobra.Command{
		Use:   "kill CONTAINER [CONTAINER…] | kill ID [SIGNAL]",
		Short: "Send a signal to the first process of containers",
		Long: `Send a signal to the first process of containers.

In the second form, for a container made of a bundle by 'create' or 'run --bundle',
the signal is the second argument and TERM by default, as with other OCI runtimes.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r := a.given(args[0]); r != nil {
				return killGiven(cmd.Context(), r, args, changed(cmd, "signal", name), all)
			}
			signal, err := oci.ParseSignal(name)
			if err != nil {
				return err
			}
			return forEach(cmd, args, func(ref string) error {
				dir, err := a.find(ref)
				if err != nil {
					return err
				}
				client, err := engine.Dial(dir)
				if err != nil {
					return err
				}
				defer client.Close()
				if _, err := client.Task.Kill(cmd.Context(), &task.KillRequest{ID: dir.ID, Signal: uint32(signal), All: all}); err != nil {
					return fmt.Errorf("kill container %s: %w", ref, err)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "KILL", "signal to send, by name or number")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "send it to all processes of the container")
	return cmd
}

// changed is the value of a flag that was given, and else empty.
func changed(cmd *cobra.Command, flag, value string) string {
	if cmd.Flags().Changed(flag) {
		return value
	}
	return ""
}
