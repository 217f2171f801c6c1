package sandbox

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/sizing"
)

// enterCgroup puts this process, and with it all that it starts for the
// sandbox, into the sandbox's cgroup on the host. Limits come when the start is
// over: what it takes is not the container's.
func (s *Sandbox) enterCgroup(ctx context.Context) error {
	defer s.phase(ctx, "cgroup")()
	s.entering.Lock()
	defer s.entering.Unlock()
	if s.life.get() == Stopped {
		return errStopped
	}
	group, err := cgroup.Join(s.opts.Cgroup, s.opts.Dir)
	if err != nil {
		return err
	}
	s.group, s.opts.outside = group, group.Outside
	s.releases.push(func() { logError("leave cgroup", s.opts.ID, group.Leave()) })
	return nil
}

// hostDemand is what a sandbox's containers may use between them. What is known
// of the pod counts beside what its containers say: they may not all be there
// yet.
func hostDemand(pod sizing.Demand, containers []sizing.Demand) sizing.Demand {
	if pod == (sizing.Demand{}) {
		return sizing.Together(containers...)
	}
	sum := sizing.Sum(containers...)
	limited := pod
	// Whoever pins some containers of a pod to CPUs pins all but the first,
	// which only holds the pod.
	pinned := sizing.Together(slices.DeleteFunc(slices.Clone(containers), func(d sizing.Demand) bool { return d.CPUs == "" && d.Mems == "" })...)
	limited.CPUs, limited.Mems = pinned.CPUs, pinned.Mems
	if pod.MilliCPUs > 0 {
		limited.MilliCPUs = max(pod.MilliCPUs, sum.MilliCPUs)
	}
	if pod.MemoryBytes > 0 {
		limited.MemoryBytes = max(pod.MemoryBytes, sum.MemoryBytes)
	}
	return limited
}

// Adopt moves a process that stands for one of the guest into the cgroup of
// the sandbox, where those look who count what a container takes.
func (s *Sandbox) Adopt(pid int) {
	if s == nil {
		return
	}
	logError("move a process into the cgroup", s.opts.ID, s.group.Add(pid))
}

// Metrics are what the sandbox takes of the host, by its cgroup there: the VMM
// with the guest's memory, and the processes beside it. Without a cgroup they
// are nothing.
func (s *Sandbox) Metrics() (*anypb.Any, error) {
	usage, _, err := s.group.Usage()
	if err != nil {
		return nil, err
	}
	return metricsOf(usage)
}

// metricsOf are containerd's metrics of a use.
func metricsOf(u cgroup.Usage) (*anypb.Any, error) {
	m := &stats.Metrics{
		Pids: &stats.PidsStat{}, CPU: &stats.CPUStat{UsageUsec: u.CPUNanoseconds / 1000},
		Memory:       &stats.MemoryStat{Usage: u.MemoryBytes, InactiveFile: u.InactiveFileBytes},
		MemoryEvents: &stats.MemoryEvents{}, Io: &stats.IOStat{},
	}
	value, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode metrics: %w", err)
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: value}, nil
}
