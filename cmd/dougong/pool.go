package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/pool"
	"dougong.dev/dougong/internal/shim"
)

func newPoolCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pool",
		Short: "Look at, fill and stop the pool of virtual machines that wait for a container",
		Long: `Look at, fill and stop the pool of virtual machines that wait for a container.

A pool is kept where the configuration says pool.size. The first container starts
the process that keeps it; 'dougong pool fill' does so before.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPoolStatusCommand(a), newPoolFillCommand(a), newPoolStopCommand(a))
	return cmd
}

func newPoolStatusCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell which machines wait, and how many starts found one",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return unknownFormat(format)
			}
			status, err := shim.Pool(a.host).Status(cmd.Context())
			if errdefs.IsNotFound(err) {
				status, err = &pool.Status{Limits: shim.Pool(a.host).Limits, Waiting: []pool.Waiting{}}, nil
			}
			if err != nil {
				return err
			}
			return printPool(cmd.OutOrStdout(), status, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	return cmd
}

func newPoolFillCommand(a *app) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "fill",
		Short: "Fill the pool with machines that 'dougong run' with these flags uses, and wait for it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := o.machine(a.cfg)
			if err != nil {
				return err
			}
			if a.host.Pool.Size == 0 {
				return errors.New("the configuration has no pool: set pool.size")
			}
			e, err := a.containers()
			if err != nil {
				return err
			}
			kind, err := shim.PoolKind(a.cfg, config.Overrides{CPUs: m.cpus, MemoryMiB: m.memoryMiB, Network: m.network})
			if err != nil {
				return err
			}
			if err := shim.StartKeeper(a.host, e.ShimPath, a.configPath); err != nil {
				return err
			}
			status, err := shim.Pool(a.host).Fill(cmd.Context(), kind)
			if err != nil {
				return err
			}
			if status.Trouble != "" {
				return fmt.Errorf("%d of %d machines wait: %s", len(status.Waiting), status.Limits.Size, status.Trouble)
			}
			return printPool(cmd.OutOrStdout(), status, "table")
		},
	}
	o.registerShape(cmd.Flags())
	return cmd
}

func newPoolStopCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "End the machines that wait and the process that keeps them",
		Long: `End the machines that wait and the process that keeps them. Containers that run are
not touched. The next container starts both anew, unless pool.size is 0.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := shim.Pool(a.host).Stop(cmd.Context())
			if errdefs.IsNotFound(err) {
				// What is wanted is so.
				return nil
			}
			return err
		},
	}
}

func printPool(w io.Writer, s *pool.Status, format string) error {
	if format == "json" {
		return printJSON(w, s)
	}
	keeper := "no keeper runs; the next container starts one"
	switch {
	case s.PID != 0:
		keeper = fmt.Sprintf("keeper %d, for %s", s.PID, age(time.Since(s.Since)))
	case s.Limits.Size == 0:
		keeper = "the configuration has no pool (pool.size)"
	}
	fmt.Fprintf(w, "%d of %d machines wait, %d of at most %d MiB; %s\n", len(s.Waiting), s.Limits.Size, s.MemoryMiB, s.Limits.MemoryMiB, keeper)
	fmt.Fprintf(w, "hits %d, misses %d, made %d, dropped %d, failed %d\n", s.Hits, s.Misses, s.Made, s.Dropped, s.Failed)
	if s.Trouble != "" {
		fmt.Fprintf(w, "no more are made: %s\n", s.Trouble)
	}
	if len(s.Waiting) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	fmt.Fprintln(t, "PID\tWAITS\tMEMORY\tMACHINE")
	for _, m := range s.Waiting {
		fmt.Fprintf(t, "%d\t%s\t%d MiB\t%s\n", m.PID, age(time.Since(m.Since)), m.MemoryMiB, m.Description)
	}
	return t.Flush()
}
