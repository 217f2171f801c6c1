package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/bench"
)

func newBenchCommand(a *app) *cobra.Command {
	var runs int
	var jsonPath, image string
	cmd := &cobra.Command{
		Use:   "bench [flags]",
		Short: "Measure this host: dougong against a bare QEMU and other runtimes",
		Long: `Measure this host: dougong against a bare QEMU and other runtimes.

Everything happens in an installation of its own, which is removed at the end:
neither containers nor images of this host are touched. It takes some minutes.

"ok" and "over" tell whether a promise of SPECIFICATION.md is kept. Those are for a
quiet machine.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return errors.New("dougong bench must be run as root: it starts virtual machines and containers")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
			defer stop()
			report, err := a.bench(ctx, bench.Options{
				Config: a.cfg, Image: image, Runs: runs, Progress: cmd.ErrOrStderr(),
			})
			if err != nil {
				return err
			}
			if jsonPath != "" {
				if err := writeTo(jsonPath, report.WriteJSON); err != nil {
					return err
				}
			}
			return report.WriteTable(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.IntVar(&runs, "runs", 10, "how often everything is measured")
	f.StringVar(&jsonPath, "json", "", "write the figures to a file too, as JSON")
	f.StringVar(&image, "image", "busybox", "image with true, sh, cat, dd and sync")
	return cmd
}

func (a *app) bench(ctx context.Context, o bench.Options) (*bench.Report, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	o.Command = self
	return bench.Run(ctx, o)
}

// writeTo writes a file by a function.
func writeTo(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return errors.Join(write(f), f.Close())
}
