package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/containerlog"
	"dougong.dev/dougong/internal/record"
)

// logOptions are the flags of dougong logs.
type logOptions struct {
	follow, timestamps bool
	tail               int
}

func newLogsCommand(a *app) *cobra.Command {
	var o logOptions
	cmd := &cobra.Command{
		Use:   "logs CONTAINER",
		Short: "Show the output of a container",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.find(args[0])
			if err != nil {
				return err
			}
			return showLog(cmd.Context(), dir, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on until the container ends")
	cmd.Flags().BoolVarP(&o.timestamps, "timestamps", "t", false, "show the time of each line")
	cmd.Flags().IntVarP(&o.tail, "tail", "n", -1, "show only this many lines of what is there (-1: all)")
	return cmd
}

func showLog(ctx context.Context, dir record.Dir, o logOptions, stdout, stderr io.Writer) error {
	f, err := os.Open(dir.ContainerLog())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	r := containerlog.NewReader(f)
	show := func(e containerlog.Entry) error { return printEntry(e, o.timestamps, stdout, stderr) }
	if err := showTail(r, o.tail, show); err != nil || !o.follow {
		return err
	}
	return follow(ctx, dir, r, show)
}

// showTail shows what the log holds now, or its last n entries.
func showTail(r *containerlog.Reader, n int, show func(containerlog.Entry) error) error {
	var held []containerlog.Entry
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if n < 0 {
			if err := show(e); err != nil {
				return err
			}
			continue
		}
		held = append(held, e)
		held = held[max(0, len(held)-n):]
	}
	for _, e := range held {
		if err := show(e); err != nil {
			return err
		}
	}
	return nil
}

// follow shows entries as they come until the sandbox is gone.
func follow(ctx context.Context, dir record.Dir, r *containerlog.Reader, show func(containerlog.Entry) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		// Asked before reading: what was written before the end is then seen.
		alive := dir.Alive()
		if err := showTail(r, -1, show); err != nil || !alive {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func printEntry(e containerlog.Entry, timestamps bool, stdout, stderr io.Writer) error {
	w := stdout
	if e.Stream == "stderr" {
		w = stderr
	}
	line := e.Log
	if timestamps {
		line = append([]byte(e.Time.Format(time.RFC3339Nano)+" "), line...)
	}
	if _, err := w.Write(line); err != nil {
		return fmt.Errorf("print log: %w", err)
	}
	return nil
}
