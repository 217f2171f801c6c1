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
	return sizing.Rule{
		Start: sizing.Size{CPUs: vm.CPUs, MemoryMiB: vm.MemoryMiB},
		Max:   sizing.Size{CPUs: cmp.Or(vm.MaxCPUs, host.CPUs), MemoryMiB: cmp.Or(vm.MaxMemoryMiB, host.MemoryMiB)},
	}
}

const (
	// roomCPUs is for how many CPUs there is room where nothing is said. Each
	// place takes a quarter of a MiB of the guest's memory.
	roomCPUs = 16
	// roomStepMiB keeps the room for memory, which templates depend on, the same
	// when the host's own kernel takes a little more or less.
	roomStepMiB = 1024
)

// withRoom gives a machine the room to grow.
func withRoom(vm config.VM, host sizing.Size, machine vmm.MachineSpec) vmm.MachineSpec {
	machine.MaxCPUs = max(machine.CPUs, cmp.Or(vm.MaxCPUs, min(host.CPUs, roomCPUs)))
	machine.MaxMemoryMiB = max(machine.MemoryMiB, cmp.Or(vm.MaxMemoryMiB, host.MemoryMiB/roomStepMiB*roomStepMiB))
	return machine
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

// growing is the rule for a machine that is there.
func growing(machine vmm.MachineSpec) sizing.Rule {
	return sizing.Rule{
		Start: sizing.Size{CPUs: machine.CPUs, MemoryMiB: machine.MemoryMiB},
		Max:   sizing.Size{CPUs: machine.MaxCPUs, MemoryMiB: machine.MaxMemoryMiB},
	}
}

// cgroupPlace is where a sandbox's processes are put on the host.
func cgroupPlace(c config.Cgroup, id string, spec *specs.Spec) (cgroup.Place, error) {
	path := ""
	if spec.Linux != nil {
		path = spec.Linux.CgroupsPath
	}
	return cgroup.Parse(path, c.Parent, id)
}
