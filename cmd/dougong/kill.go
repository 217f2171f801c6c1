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
	cmd := &cobra.Command{
		Use:   "kill CONTAINER [CONTAINER…]",
		Short: "Send a signal to the first process of containers",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
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
				if _, err := client.Task.Kill(cmd.Context(), &task.KillRequest{ID: dir.ID, Signal: uint32(signal)}); err != nil {
					return fmt.Errorf("kill container %s: %w", ref, err)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "KILL", "signal to send, by name or number")
	return cmd
}
