package cgroup

import "fmt"

// Usage is what all processes of a cgroup have taken.
type Usage struct {
	// CPUNanoseconds is time of CPUs since the cgroup was made.
	CPUNanoseconds uint64
	// MemoryBytes is what they hold now, InactiveFileBytes that part of it which
	// the kernel could take back at once.
	MemoryBytes, InactiveFileBytes uint64
}

// Usage reads it. ok is false without a cgroup.
func (g *Group) Usage() (u Usage, ok bool, err error) {
	if g == nil {
		return Usage{}, false, nil
	}
	stats, err := g.manager.GetStats()
	if err != nil {
		return Usage{}, false, fmt.Errorf("read what cgroup %s has taken: %w", g.place, err)
	}
	u = Usage{CPUNanoseconds: stats.CpuStats.CpuUsage.TotalUsage, MemoryBytes: stats.MemoryStats.Usage.Usage}
	// Version 1 counts those below under a name of its own.
	for _, name := range []string{"total_inactive_file", "inactive_file"} {
		if bytes, found := stats.MemoryStats.Stats[name]; found {
			u.InactiveFileBytes = bytes
			break
		}
	}
	return u, true, nil
}
