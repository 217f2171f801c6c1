package shim

import (
	"cmp"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/sizing"
	"dougong.dev/dougong/internal/vmm"
)

// hostRoom is what the host has.
func hostRoom() sizing.Size {
	r := sizing.Size{CPUs: runtime.NumCPU(), MemoryMiB: config.MaxMemoryMiB}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		r.MemoryMiB = int(info.Totalram * uint64(info.Unit) >> 20)
	}
	return r
}

// sizingRule is the rule for a sandbox of this configuration.
func sizingRule(vm config.VM, host sizing.Size) sizing.Rule {
	return sizing.Rule{Start: sizing.Size{CPUs: vm.CPUs, MemoryMiB: vm.MemoryMiB}, Max: host}
}

// fit makes a machine that nobody gave a size large enough for what its
// containers may use: the first one, and those that the pod's annotations
// announce.
func fit(over config.Overrides, rule sizing.Rule, spec *specs.Spec, pod sizing.Demand) config.Overrides {
	demand := pod
	if spec.Linux != nil {
		demand = sizing.Of(spec.Linux.Resources).Larger(pod)
	}
	size := rule.Fit(demand)
	over.CPUs, over.MemoryMiB = cmp.Or(over.CPUs, size.CPUs), cmp.Or(over.MemoryMiB, size.MemoryMiB)
	return over
}

// startingAt is the rule for a machine that is there.
func startingAt(rule sizing.Rule, machine vmm.MachineSpec) sizing.Rule {
	rule.Start = sizing.Size{CPUs: machine.CPUs, MemoryMiB: machine.MemoryMiB}
	return rule
}

// cgroupPlace is where a sandbox's processes are put on the host.
func cgroupPlace(c config.Cgroup, id string, spec *specs.Spec) (cgroup.Place, error) {
	path := ""
	if spec.Linux != nil {
		path = spec.Linux.CgroupsPath
	}
	return cgroup.Parse(path, c.Parent, id)
}
