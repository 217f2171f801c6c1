package sandbox

import (
	"slices"

	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/sizing"
)

// enterCgroup puts this process, and with it all that it starts for the
// sandbox, into the sandbox's cgroup on the host. Limits come when the start is
// over: what it takes is not the container's.
func (s *Sandbox) enterCgroup() error {
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

// limitHost has the host's cgroup hold what the containers may use and what
// the machine takes beside. Time is limited from when the first container is
// there: before, the machine would only be slower.
func (s *Sandbox) limitHost(there bool) error {
	s.mu.Lock()
	s.settled = s.settled || there
	settled := s.settled
	var demands []sizing.Demand
	for _, c := range s.containers {
		demands = append(demands, c.demand)
	}
	s.mu.Unlock()
	limits := s.opts.Overhead.Host(hostDemand(s.opts.Pod, demands), s.opts.Sizing.Start)
	if !settled {
		limits.MilliCPUs = 0
	}
	return s.group.Set(cgroup.Limits(limits))
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
