package shim

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/config"
)

func TestMachineFitsItsContainer(t *testing.T) {
	vm, host := config.VM{CPUs: 1, MemoryMiB: 512}, room{cpus: 8, memoryMiB: 16384}
	limits := func(quota int64, period uint64, memory int64) *specs.LinuxResources {
		return &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}, Memory: &specs.LinuxMemory{Limit: &memory}}
	}
	for name, c := range map[string]struct {
		resources    *specs.LinuxResources
		over         config.Overrides
		cpus, memory int
	}{
		"no limits":        {nil, config.Overrides{}, 0, 0},
		"empty limits":     {&specs.LinuxResources{CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}}, config.Overrides{}, 0, 0},
		"unlimited":        {limits(-1, 100000, -1), config.Overrides{}, 0, 0},
		"small":            {limits(50000, 100000, 100<<20), config.Overrides{}, 0, 0},
		"large":            {limits(250000, 100000, 1<<30), config.Overrides{}, 3, 1280},
		"beyond the host":  {limits(9900000, 100000, 1<<50), config.Overrides{}, 8, 16384},
		"annotations":      {limits(250000, 100000, 1<<30), config.Overrides{CPUs: 1, MemoryMiB: 300}, 1, 300},
		"one of the two":   {limits(250000, 100000, 1<<30), config.Overrides{CPUs: 2}, 2, 1280},
		"period of 0":      {limits(250000, 0, 0), config.Overrides{}, 0, 0},
		"just above a CPU": {limits(100001, 100000, 512<<20), config.Overrides{}, 2, 768},
	} {
		got := fit(c.over, vm, &specs.Spec{Linux: &specs.Linux{Resources: c.resources}}, host)
		if got.CPUs != c.cpus || got.MemoryMiB != c.memory {
			t.Errorf("%s: %d CPUs and %d MiB, want %d and %d", name, got.CPUs, got.MemoryMiB, c.cpus, c.memory)
		}
	}
	if got := fit(config.Overrides{}, vm, &specs.Spec{}, hostRoom()); got.CPUs != 0 || got.MemoryMiB != 0 {
		t.Errorf("a spec for no Linux gives %+v", got)
	}
}
