package sizing

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Demand is what a container, or a pod, may use by its limits. Zero values
// mean that there is no limit.
type Demand struct {
	// MilliCPUs are thousandths of a CPU's time.
	MilliCPUs int64
	// MemoryBytes is the limit of memory.
	MemoryBytes int64
	// HugeBytes is the limit of huge pages, which are not part of MemoryBytes.
	HugeBytes int64
	// Shares are the weight against others, by cgroup version 1's measure.
	Shares uint64
	// CPUs and Mems are lists of the host's CPUs and memory nodes.
	CPUs, Mems string
}

// Of reads the limits of an OCI spec.
func Of(r *specs.LinuxResources) Demand { return Demand{}.With(r) }

// With lays an update over a demand: what the update does not name stays, and a
// limit that is taken back is gone.
func (d Demand) With(r *specs.LinuxResources) Demand {
	if r == nil {
		return d
	}
	if m := r.Memory; m != nil && m.Limit != nil && *m.Limit != 0 {
		d.MemoryBytes = max(*m.Limit, 0)
	}
	if c := r.CPU; c != nil {
		d = d.withCPU(c)
	}
	if r.HugepageLimits != nil {
		d.HugeBytes = 0
		for _, l := range r.HugepageLimits {
			d.HugeBytes = added(d.HugeBytes, int64(min(l.Limit, 1<<62)))
		}
	}
	d.CPUs, d.Mems = orElse(r.Unified["cpuset.cpus"], d.CPUs), orElse(r.Unified["cpuset.mems"], d.Mems)
	return d
}

// defaultPeriod of a quota in µs is the kernel's.
const defaultPeriod = 100_000

func (d Demand) withCPU(c *specs.LinuxCPU) Demand {
	if c.Quota != nil && *c.Quota != 0 {
		period := uint64(defaultPeriod)
		if c.Period != nil && *c.Period > 0 {
			period = *c.Period
		}
		d.MilliCPUs = milli(*c.Quota, period)
	}
	if c.Shares != nil && *c.Shares != 0 {
		d.Shares = *c.Shares
	}
	d.CPUs, d.Mems = orElse(c.Cpus, d.CPUs), orElse(c.Mems, d.Mems)
	return d
}

// maxMilliCPUs is more than any machine has, and small enough to reckon with.
const maxMilliCPUs = 1 << 32

// milli is a quota in thousandths of a CPU, 0 for none.
func milli(quota int64, period uint64) int64 {
	if quota <= 0 {
		return 0
	}
	whole := quota / int64(period)
	if whole >= maxMilliCPUs/1000 {
		return maxMilliCPUs
	}
	return max(whole*1000+quota%int64(period)*1000/int64(period), 1)
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// Together is what several may use between them: without limit where one of
// them has none.
func Together(all ...Demand) Demand {
	if len(all) == 0 {
		return Demand{}
	}
	sum := all[0]
	for _, d := range all[1:] {
		sum.MilliCPUs = bounded(sum.MilliCPUs, d.MilliCPUs)
		sum.MemoryBytes = bounded(sum.MemoryBytes, d.MemoryBytes)
		sum.Shares = uint64(bounded(int64(sum.Shares), int64(d.Shares)))
		sum.CPUs, sum.Mems = union(sum.CPUs, d.CPUs), union(sum.Mems, d.Mems)
	}
	return sum
}

// bounded adds what is limited; 0 is no limit.
func bounded(a, b int64) int64 {
	if a == 0 || b == 0 {
		return 0
	}
	return added(a, b)
}

// added is a sum that does not overflow.
func added(a, b int64) int64 {
	if s := a + b; s >= a {
		return s
	}
	return 1<<63 - 1
}

// union joins two of the kernel's lists; an empty one is all there is.
func union(a, b string) string {
	if a == "" || b == "" {
		return ""
	}
	if a == b || strings.Contains(","+a+",", ","+b+",") {
		return a
	}
	return a + "," + b
}

// Sum is what the limited ones among several may use between them. The others
// make do with what a machine has anyway.
func Sum(all ...Demand) Demand {
	var sum Demand
	for _, d := range all {
		sum.MilliCPUs = added(sum.MilliCPUs, d.MilliCPUs)
		sum.MemoryBytes = added(sum.MemoryBytes, d.MemoryBytes)
		sum.HugeBytes = added(sum.HugeBytes, d.HugeBytes)
	}
	return sum
}

// Larger is, for time and memory, the larger of two demands.
func (d Demand) Larger(other Demand) Demand {
	d.MilliCPUs, d.MemoryBytes = max(d.MilliCPUs, other.MilliCPUs), max(d.MemoryBytes, other.MemoryBytes)
	return d
}
