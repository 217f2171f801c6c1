package shim

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/sizing"
	"dougong.dev/dougong/internal/vmm"
)

func TestMachineFitsItsContainer(t *testing.T) {
	rule := sizingRule(config.VM{CPUs: 1, MemoryMiB: 512}, sizing.Size{CPUs: 8, MemoryMiB: 16384})
	limits := func(quota int64, period uint64, memory int64) *specs.LinuxResources {
		return &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}, Memory: &specs.LinuxMemory{Limit: &memory}}
	}
	for name, c := range map[string]struct {
		resources    *specs.LinuxResources
		pod          sizing.Demand
		over         config.Overrides
		cpus, memory int
	}{
		"no limits":       {nil, sizing.Demand{}, config.Overrides{}, 1, 512},
		"small":           {limits(50000, 100000, 100<<20), sizing.Demand{}, config.Overrides{}, 1, 512},
		"large":           {limits(250000, 100000, 1<<30), sizing.Demand{}, config.Overrides{}, 3, 1280},
		"beyond the host": {limits(9900000, 100000, 1<<50), sizing.Demand{}, config.Overrides{}, 8, 16384},
		"a pod":           {nil, sizing.Demand{MilliCPUs: 3500, MemoryBytes: 2 << 30}, config.Overrides{}, 4, 2304},
		"annotations":     {limits(250000, 100000, 1<<30), sizing.Demand{}, config.Overrides{CPUs: 1, MemoryMiB: 300}, 1, 300},
		"one of the two":  {limits(250000, 100000, 1<<30), sizing.Demand{}, config.Overrides{CPUs: 2}, 2, 1280},
	} {
		got := fit(c.over, rule, &specs.Spec{Linux: &specs.Linux{Resources: c.resources}}, c.pod)
		if got.CPUs != c.cpus || got.MemoryMiB != c.memory {
			t.Errorf("%s: %d CPUs and %d MiB, want %d and %d", name, got.CPUs, got.MemoryMiB, c.cpus, c.memory)
		}
	}
	if got := fit(config.Overrides{}, rule, &specs.Spec{}, sizing.Demand{}); got.CPUs != 1 || got.MemoryMiB != 512 {
		t.Errorf("a spec for no Linux gives %+v", got)
	}
	if room := hostRoom(); room.CPUs < 1 || room.MemoryMiB < config.MinMemoryMiB {
		t.Errorf("the host has %+v", room)
	}
}

func TestRoomToGrow(t *testing.T) {
	host := sizing.Size{CPUs: 64, MemoryMiB: 64300}
	for name, c := range map[string]struct {
		vm   config.VM
		want sizing.Size
	}{
		"nothing said":  {config.VM{}, sizing.Size{CPUs: 16, MemoryMiB: 63488}},
		"said":          {config.VM{MaxCPUs: 32, MaxMemoryMiB: 4000}, sizing.Size{CPUs: 32, MemoryMiB: 4000}},
		"none, that is": {config.VM{MaxCPUs: 1, MaxMemoryMiB: 1}, sizing.Size{CPUs: 2, MemoryMiB: 512}},
	} {
		machine := withRoom(c.vm, host, vmm.MachineSpec{CPUs: 2, MemoryMiB: 512})
		if rule := growing(machine); rule.Max != c.want || rule.Start != (sizing.Size{CPUs: 2, MemoryMiB: 512}) {
			t.Errorf("%s: %+v, want up to %+v", name, rule, c.want)
		}
	}
}

func TestCgroupPlace(t *testing.T) {
	c := config.Cgroup{Parent: "/dougong"}
	for path, want := range map[string]cgroup.Place{"": {Path: "/dougong/id"}, "/default/x": {Path: "/default/x"}} {
		if got, err := cgroupPlace(c, "id", &specs.Spec{Linux: &specs.Linux{CgroupsPath: path}}); err != nil || got != want {
			t.Errorf("%q gives %+v, %v", path, got, err)
		}
	}
	if got, err := cgroupPlace(c, "id", &specs.Spec{}); err != nil || got.Path != "/dougong/id" {
		t.Errorf("a spec for no Linux gives %+v, %v", got, err)
	}
}
