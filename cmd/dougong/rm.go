package main

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/engine"
)

func newRmCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm CONTAINER [CONTAINER…]",
		Short: "Remove containers",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return forEach(cmd, args, func(ref string) error { return a.remove(cmd.Context(), ref, force) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill a running container first; a missing one is no error")
	return cmd
}

func (a *app) remove(ctx context.Context, ref string, force bool) error {
	dir, err := a.find(ref)
	if errdefs.IsNotFound(err) && force {
		return nil
	}
	if err != nil {
		return err
	}
	client, err := engine.Dial(dir)
	if err == nil {
		defer client.Close()
		if !force {
			return fmt.Errorf("container %s is running: stop it with 'dougong stop %s', or remove it with 'dougong rm -f %s': %w", ref, ref, ref, errdefs.ErrFailedPrecondition)
		}
		if _, err := client.Task.Shutdown(ctx, &task.ShutdownRequest{ID: dir.ID, Now: true}); ignoreEnded(err) != nil {
			return fmt.Errorf("end container %s: %w", ref, err)
		}
	}
	if err := waitEnd(ctx, dir); err != nil {
		return err
	}
	if err := cgroup.Clear(dir.Path()); err != nil {
		return err
	}
	return dir.Remove()
}
