package cgroup

import (
	"github.com/opencontainers/cgroups"
)

// Limits are what a sandbox may take of the host. Zero values mean no limit.
type Limits struct {
	// MilliCPUs are thousandths of a CPU's time.
	MilliCPUs int64
	// MemoryBytes bounds all memory, the guest's included.
	MemoryBytes int64
	// Shares are the weight against others, by version 1's measure.
	Shares uint64
	// CPUs and Mems are lists of the host's CPUs and memory nodes, "0-3,7".
	CPUs, Mems string
}

const (
	// period of the CPU quota in µs, the kernel's default.
	period = 100_000
	// minQuota is the least quota in µs that the kernel takes.
	minQuota = 1000
	// defaultShares is the weight of what nobody gave one.
	defaultShares = 1024
)

// resources are the limits in the library's terms, in which zero values
// change nothing.
func (l Limits) resources() *cgroups.Resources {
	r := &cgroups.Resources{
		// What a guest's devices are is no matter of the host's device rules.
		SkipDevices: true,
		CpuPeriod:   period, CpuQuota: -1, Memory: -1,
		CpusetCpus: l.CPUs, CpusetMems: l.Mems,
		CpuShares: defaultShares,
	}
	if l.MilliCPUs > 0 {
		r.CpuQuota = max(l.MilliCPUs*period/1000, minQuota)
	}
	if l.MemoryBytes > 0 {
		r.Memory = l.MemoryBytes
	}
	if l.Shares > 0 {
		r.CpuShares = l.Shares
	}
	r.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(r.CpuShares)
	return r
}
