package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dougong.dev/dougong/internal/oci/flags"
	"dougong.dev/dougong/internal/ocirun"
)

// limits are the flags of update; only those that were given count.
type limits struct {
	file                      string
	period, shares            uint64
	quota, pids               int64
	cpus, mems                string
	memory, reservation, swap string
	weight                    uint16
}

func newUpdateCommand(a *app) *cobra.Command {
	var l limits
	cmd := newVerb("update [flags] ID", "Change the limits of a container", a, func(cmd *cobra.Command, r *ocirun.Runtime, id string) error {
		resources, err := l.resources(cmd.Flags(), cmd.InOrStdin())
		if err != nil {
			return err
		}
		return r.Update(cmd.Context(), id, resources)
	})
	f := cmd.Flags()
	f.StringVarP(&l.file, "resources", "r", "", "file with OCI resources as JSON, or - for the input; the other flags are for nothing then")
	f.Uint64Var(&l.period, "cpu-period", 0, "period of the limit of CPU time, in microseconds")
	f.Int64Var(&l.quota, "cpu-quota", 0, "CPU time in each period, in microseconds; -1 for no limit")
	f.Uint64Var(&l.shares, "cpu-share", 0, "share of CPU time against other containers")
	f.StringVar(&l.cpus, "cpuset-cpus", "", "CPUs to use")
	f.StringVar(&l.mems, "cpuset-mems", "", "memory nodes to use")
	f.StringVar(&l.memory, "memory", "", "limit of memory: 256m, 1g, or -1 for none")
	f.StringVar(&l.reservation, "memory-reservation", "", "memory that is taken last")
	f.StringVar(&l.swap, "memory-swap", "", "limit of memory and swap together")
	f.Int64Var(&l.pids, "pids-limit", 0, "most processes; -1 for no limit")
	f.Uint16Var(&l.weight, "blkio-weight", 0, "weight of input and output")
	return cmd
}

func (l *limits) resources(f *pflag.FlagSet, stdin io.Reader) (*specs.LinuxResources, error) {
	if l.file != "" {
		return readResources(l.file, stdin)
	}
	r := &specs.LinuxResources{}
	if err := l.memoryOf(f, r); err != nil {
		return nil, err
	}
	l.cpuOf(f, r)
	if f.Changed("pids-limit") {
		r.Pids = &specs.LinuxPids{Limit: &l.pids}
	}
	if f.Changed("blkio-weight") {
		r.BlockIO = &specs.LinuxBlockIO{Weight: &l.weight}
	}
	return r, nil
}

func readResources(path string, stdin io.Reader) (*specs.LinuxResources, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read --resources: %w", err)
		}
		defer f.Close()
		stdin = f
	}
	r := new(specs.LinuxResources)
	if err := json.NewDecoder(stdin).Decode(r); err != nil {
		return nil, fmt.Errorf("read --resources %s: %w", path, err)
	}
	return r, nil
}

func (l *limits) memoryOf(f *pflag.FlagSet, r *specs.LinuxResources) error {
	m := &specs.LinuxMemory{}
	var errs []error
	for _, one := range []struct {
		flag, text string
		to         **int64
	}{{"memory", l.memory, &m.Limit}, {"memory-reservation", l.reservation, &m.Reservation}, {"memory-swap", l.swap, &m.Swap}} {
		if !f.Changed(one.flag) {
			continue
		}
		r.Memory = m
		size := int64(-1)
		if one.text != "-1" {
			var err error
			if size, err = flags.ParseSize(one.text); err != nil {
				errs = append(errs, fmt.Errorf("--%s: %w", one.flag, err))
			}
		}
		*one.to = &size
	}
	return errors.Join(errs...)
}

func (l *limits) cpuOf(f *pflag.FlagSet, r *specs.LinuxResources) {
	c := &specs.LinuxCPU{Cpus: l.cpus, Mems: l.mems}
	if f.Changed("cpu-period") {
		c.Period = &l.period
	}
	if f.Changed("cpu-quota") {
		c.Quota = &l.quota
	}
	if f.Changed("cpu-share") {
		c.Shares = &l.shares
	}
	if c.Period != nil || c.Quota != nil || c.Shares != nil || c.Cpus != "" || c.Mems != "" {
		r.CPU = c
	}
}
