package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/sizing"
)

// demands are what the containers may use.
func (s *Sandbox) demands() []sizing.Demand {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []sizing.Demand
	for _, c := range s.containers {
		// That which holds a pod runs nothing.
		if c.role != oci.PodSandbox {
			all = append(all, c.demand)
		}
	}
	return all
}

// wanted is the size for the containers that there are.
func (s *Sandbox) wanted() sizing.Size {
	return s.opts.Sizing.Fit(sizing.Sum(s.demands()...).Larger(s.opts.Pod))
}

// grow makes the machine as large as its containers may need. resizing must be
// held.
func (s *Sandbox) grow(ctx context.Context) error {
	want := s.wanted()
	if want.CPUs <= s.size.CPUs && want.MemoryMiB <= s.size.MemoryMiB {
		return nil
	}
	// It must do what it is asked to, as at its start.
	ctx, cancel := context.WithTimeoutCause(ctx, s.opts.BootTimeout, fmt.Errorf("the guest did not take it within %v", s.opts.BootTimeout))
	defer cancel()
	begin := time.Now()
	if want.CPUs > s.size.CPUs {
		if err := s.growCPUs(ctx, want.CPUs); err != nil {
			return fmt.Errorf("give the virtual machine %d CPUs: %w", want.CPUs, err)
		}
	}
	if want.MemoryMiB > s.size.MemoryMiB {
		has, err := s.machine.SetMemory(ctx, want.MemoryMiB)
		if err == nil && has < want.MemoryMiB {
			err = fmt.Errorf("the guest has taken %d MiB: %w", has, context.Cause(ctx))
		}
		s.size.MemoryMiB = max(has, s.size.MemoryMiB)
		if err != nil {
			return fmt.Errorf("give the virtual machine %d MiB of memory: %w", want.MemoryMiB, err)
		}
	}
	slog.InfoContext(ctx, "machine grown", "sandbox", s.opts.ID, "cpus", s.size.CPUs, "memory_mib", s.size.MemoryMiB, "took", time.Since(begin))
	return nil
}

func (s *Sandbox) growCPUs(ctx context.Context, count int) error {
	if _, err := s.machine.SetCPUs(ctx, count); err != nil {
		return err
	}
	if _, err := s.client.VM.UseCPUs(ctx, &agentapi.UseCPUsRequest{Count: uint32(count)}); err != nil {
		return err
	}
	s.size.CPUs = count
	return nil
}

// shrink takes back what no container needs any more, as far as the guest can
// do without it. resizing must be held.
func (s *Sandbox) shrink(ctx context.Context) {
	want := s.wanted()
	if want.CPUs >= s.size.CPUs && want.MemoryMiB >= s.size.MemoryMiB {
		return
	}
	if want.MemoryMiB < s.size.MemoryMiB {
		ctx, cancel := context.WithTimeout(ctx, s.opts.StopTimeout)
		has, err := s.machine.SetMemory(ctx, want.MemoryMiB)
		cancel()
		logError("take memory back", s.opts.ID, err)
		if err == nil {
			s.size.MemoryMiB = has
		}
	}
	if want.CPUs < s.size.CPUs {
		ctx, cancel := context.WithTimeout(ctx, s.opts.StopTimeout)
		logError("take CPUs back", s.opts.ID, s.shrinkCPUs(ctx, want.CPUs))
		cancel()
	}
	slog.Info("machine shrunk", "sandbox", s.opts.ID, "cpus", s.size.CPUs, "memory_mib", s.size.MemoryMiB)
}

// shrinkCPUs has the guest do without some CPUs, which makes it easy for it to
// let them go.
func (s *Sandbox) shrinkCPUs(ctx context.Context, count int) error {
	if _, err := s.client.VM.UseCPUs(ctx, &agentapi.UseCPUsRequest{Count: uint32(count)}); err != nil {
		return err
	}
	s.size.CPUs = count
	_, err := s.machine.SetCPUs(ctx, count)
	return err
}

// makeRoom is called when a container is about to be made: the machine grows
// where the limits of all are more than it has, and the host's limits with it.
func (s *Sandbox) makeRoom(ctx context.Context) error {
	s.resizing.Lock()
	defer s.resizing.Unlock()
	// Limits of other memory may be more than there is; these pages must be there.
	if all := sizing.Sum(s.demands()...); all.HugeBytes > 0 {
		if err := s.opts.Sizing.Check(sizing.Demand{}, all); err != nil {
			return err
		}
	}
	if err := s.limitHost(false); err != nil {
		return err
	}
	if err := s.grow(ctx); err != nil {
		return err
	}
	return s.reservePages(ctx)
}

// roomMade is called when the container is there.
func (s *Sandbox) roomMade() {
	s.resizing.Lock()
	defer s.resizing.Unlock()
	logError("limit the processes of the sandbox", s.opts.ID, s.limitHost(true))
}

// giveBack is called when a container is gone, and others go on.
func (s *Sandbox) giveBack(ctx context.Context) {
	s.resizing.Lock()
	defer s.resizing.Unlock()
	if s.life.get() != Running {
		return
	}
	logError("take huge pages back", s.opts.ID, s.reservePages(ctx))
	s.shrink(ctx)
	logError("limit the processes of the sandbox", s.opts.ID, s.limitHost(false))
}

// limitHost has the host's cgroup hold what the containers may use and what
// the machine takes beside. Time is limited from when the first container is
// there: before, the machine would only be slower. resizing must be held.
func (s *Sandbox) limitHost(there bool) error {
	s.limited = s.limited || there
	// What is about to come counts already, and what does not go still does.
	size := s.size
	size.MemoryMiB = max(size.MemoryMiB, s.wanted().MemoryMiB)
	limits := s.opts.Overhead.Host(hostDemand(s.opts.Pod, s.demands()), size)
	if !s.limited {
		limits.MilliCPUs = 0
	}
	return s.group.Set(cgroup.Limits{
		MilliCPUs: limits.MilliCPUs, MemoryBytes: limits.MemoryBytes, Shares: limits.Shares, CPUs: limits.CPUs, Mems: limits.Mems,
	})
}
