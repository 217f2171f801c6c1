package shim

import (
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/config"
)

const (
	mebibyte = 1 << 20
	// guestMiB is what a guest needs beside its container.
	guestMiB = 96
	// stepMiB keeps the number of kinds of machines low, each of which has a
	// template.
	stepMiB = 256
)

// room is what the host has.
type room struct{ cpus, memoryMiB int }

func hostRoom() room {
	r := room{cpus: runtime.NumCPU(), memoryMiB: 1 << 30}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		r.memoryMiB = int(info.Totalram * uint64(info.Unit) / mebibyte)
	}
	return r
}

// fit makes a machine that nobody gave a size large enough for what its
// container may use, within what the host has.
func fit(over config.Overrides, vm config.VM, spec *specs.Spec, host room) config.Overrides {
	if spec.Linux == nil || spec.Linux.Resources == nil {
		return over
	}
	r := spec.Linux.Resources
	if c := r.CPU; over.CPUs == 0 && c != nil && c.Quota != nil && c.Period != nil && *c.Quota > 0 && *c.Period > 0 {
		period := int64(*c.Period)
		over.CPUs = larger(vm.CPUs, int(min((*c.Quota+period-1)/period, int64(host.cpus))))
	}
	if m := r.Memory; over.MemoryMiB == 0 && m != nil && m.Limit != nil && *m.Limit > 0 {
		need := min(*m.Limit/mebibyte, int64(host.memoryMiB)) + guestMiB
		need = (need + stepMiB - 1) / stepMiB * stepMiB
		over.MemoryMiB = larger(vm.MemoryMiB, min(int(need), host.memoryMiB))
	}
	return over
}

// larger is n where that is more than what is there anyway, and else 0.
func larger(is, n int) int {
	if n > is {
		return n
	}
	return 0
}
