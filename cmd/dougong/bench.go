package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/bench"
)

func newBenchCommand(a *app) *cobra.Command {
	var runs, clones int
	var jsonPath, chartPath, image, containerd string
	var timeline bool
	var only []string
	cmd := &cobra.Command{
		Use:   "bench [flags]",
		Short: "Measure this host: dougong against a bare QEMU and other runtimes",
		Long: `Measure this host: dougong against a bare QEMU and other runtimes.

Everything happens in an installation of its own, which is removed at the end:
neither containers nor images of this host are touched. It takes some minutes.

--timeline measures nothing else: it shows where the time of a cold start, of the
guest's kernel in it, and of a clone goes.

Pods are measured where crictl and CNI's plugins are, the network where iperf3 and
ping are.

"ok" and "over" tell whether a promise of SPECIFICATION.md is kept. Those are for a
quiet machine.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return errors.New("dougong bench must be run as root: it starts virtual machines and containers")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
			defer stop()
			o := bench.Options{Config: a.cfg, Image: image, Runs: runs, Clones: clones, Containerd: containerd, Only: only, Progress: cmd.ErrOrStderr()}
			if timeline {
				return a.benchTimeline(ctx, cmd.OutOrStdout(), o)
			}
			report, err := a.bench(ctx, o)
			if err != nil {
				return err
			}
			for path, write := range map[string]func(io.Writer) error{jsonPath: report.WriteJSON, chartPath: report.WriteChart} {
				if path == "" {
					continue
				}
				if err := writeTo(path, write); err != nil {
					return err
				}
			}
			return report.WriteTable(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.IntVar(&runs, "runs", 10, "how often everything is measured")
	f.StringVar(&jsonPath, "json", "", "write the figures to a file too, as JSON")
	f.StringVar(&chartPath, "chart", "", "draw the starts into a file too, as SVG")
	f.IntVar(&clones, "clones", 0, "how many idle clones are started beside each other and measured")
	f.BoolVar(&timeline, "timeline", false, "only show where the time of a cold start and of a clone goes")
	f.StringSliceVar(&only, "only", nil, "measure only some parts: "+strings.Join(bench.Parts, ", "))
	f.StringVar(&containerd, "containerd", "", "directory of the containerd, ctr and crictl to measure under (default: those in PATH, if any)")
	f.StringVar(&image, "image", "busybox", "image with true, sh, cat, dd, sleep and sync")
	return cmd
}

func (a *app) bench(ctx context.Context, o bench.Options) (*bench.Report, error) {
	if err := setSelf(&o); err != nil {
		return nil, err
	}
	return bench.Run(ctx, o)
}

func (a *app) benchTimeline(ctx context.Context, w io.Writer, o bench.Options) error {
	if err := setSelf(&o); err != nil {
		return err
	}
	return bench.WriteTimeline(ctx, w, o)
}

// setSelf has this very program measured.
func setSelf(o *bench.Options) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	o.Command = self
	return nil
}

// writeTo writes a file by a function.
func writeTo(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return errors.Join(write(f), f.Close())
}
