package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/record"
)

func newStopCommand(a *app) *cobra.Command {
	var seconds int
	cmd := &cobra.Command{
		Use:   "stop CONTAINER [CONTAINER…]",
		Short: "Stop containers: their stop signal first, SIGKILL when the time is up",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return forEach(cmd, args, func(ref string) error {
				return a.stop(cmd.Context(), ref, time.Duration(seconds)*time.Second)
			})
		},
	}
	cmd.Flags().IntVarP(&seconds, "time", "t", 10, "seconds to wait before SIGKILL")
	return cmd
}

// forEach runs f for every argument, prints those that went well and joins
// the errors of the others.
func forEach(cmd *cobra.Command, args []string, f func(string) error) error {
	var errs []error
	for _, ref := range args {
		if err := f(ref); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(cmd.OutOrStdout(), ref)
	}
	return errors.Join(errs...)
}

// stop ends a container. One that has ended already is no error, as in Docker.
func (a *app) stop(ctx context.Context, ref string, grace time.Duration) error {
	dir, err := a.find(ref)
	if err != nil {
		return err
	}
	client, err := engine.Dial(dir)
	if errdefs.IsFailedPrecondition(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer client.Close()
	rec, err := dir.Record()
	if err != nil {
		return err
	}
	signal, err := oci.ParseSignal(rec.StopSignal)
	if err != nil {
		return err
	}
	if err := terminate(ctx, client, dir.ID, uint32(signal), grace); err != nil {
		return fmt.Errorf("stop container %s: %w", ref, err)
	}
	return waitEnd(ctx, dir)
}

// terminate sends signal, and SIGKILL after the grace period.
func terminate(ctx context.Context, client *engine.Client, id string, signal uint32, grace time.Duration) error {
	exited := make(chan error, 1)
	go func() {
		_, err := client.Wait(ctx, id, "")
		exited <- err
	}()
	if _, err := client.Task.Kill(ctx, &task.KillRequest{ID: id, Signal: signal}); err != nil {
		return ignoreEnded(err)
	}
	select {
	case err := <-exited:
		return ignoreEnded(err)
	case <-time.After(grace):
	}
	if _, err := client.Task.Kill(ctx, &task.KillRequest{ID: id, Signal: uint32(unix.SIGKILL), All: true}); err != nil {
		return ignoreEnded(err)
	}
	return ignoreEnded(<-exited)
}

// ignoreEnded drops an error that only says that it is over already.
func ignoreEnded(err error) error {
	if errdefs.IsNotFound(err) || errdefs.IsUnavailable(err) {
		return nil
	}
	return err
}

// waitEnd waits until the sandbox process itself is gone, so that what comes
// next finds nothing in its way.
func waitEnd(ctx context.Context, dir record.Dir) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for dir.Alive() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
