package cgroup

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"
)

func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limits Limits
		want   cgroups.Resources
	}{
		"none": {Limits{}, cgroups.Resources{SkipDevices: true, CpuPeriod: 100000, CpuQuota: -1, Memory: -1, CpuShares: 1024, CpuWeight: 100}},
		"all": {
			Limits{MilliCPUs: 1750, MemoryBytes: 1 << 30, Shares: 512, CPUs: "0-1", Mems: "0"},
			cgroups.Resources{SkipDevices: true, CpuPeriod: 100000, CpuQuota: 175000, Memory: 1 << 30, CpuShares: 512, CpuWeight: 59, CpusetCpus: "0-1", CpusetMems: "0"},
		},
		"the least": {Limits{MilliCPUs: 1}, cgroups.Resources{SkipDevices: true, CpuPeriod: 100000, CpuQuota: 1000, Memory: -1, CpuShares: 1024, CpuWeight: 100}},
	} {
		if diff := cmp.Diff(&c.want, c.limits.resources()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
