package sizing

import (
	"fmt"

	"github.com/containerd/errdefs"
)

const (
	mebibyte = 1 << 20
	// guestMiB is what a guest needs beside its containers.
	guestMiB = 96
	// stepMiB keeps the number of kinds of machines low, each of which has a
	// template.
	stepMiB = 256
)

// Size is that of a machine.
type Size struct{ CPUs, MemoryMiB int }

// Rule says how large a machine is: as large as at its start, and where its
// containers may use more, larger up to a limit.
type Rule struct{ Start, Max Size }

// Fit is the size for containers that may use this much between them.
func (r Rule) Fit(d Demand) Size {
	want := r.need(d)
	return Size{
		CPUs:      max(r.Start.CPUs, min(want.CPUs, r.Max.CPUs)),
		MemoryMiB: max(r.Start.MemoryMiB, min(want.MemoryMiB, r.Max.MemoryMiB)),
	}
}

// need is the size at which a demand can be met. Huge pages are of no use as
// other memory, and so come on top of what there is without them.
func (r Rule) need(d Demand) Size {
	size := need(d)
	if d.HugeBytes > 0 {
		size.MemoryMiB = stepUp(max(size.MemoryMiB, r.Start.MemoryMiB) + int(min(d.HugeBytes/mebibyte, 1<<40)))
	}
	return size
}

func stepUp(miB int) int { return (miB + stepMiB - 1) / stepMiB * stepMiB }

// need is the size for a demand without huge pages.
func need(d Demand) Size {
	size := Size{CPUs: int((d.MilliCPUs + 999) / 1000)}
	if d.MemoryBytes > 0 {
		size.MemoryMiB = stepUp(int(min(d.MemoryBytes/mebibyte, 1<<40)) + guestMiB)
	}
	return size
}

// Check refuses a demand that no machine under the rule can meet, unless the
// one before was as large.
func (r Rule) Check(before, now Demand) error {
	was, want := r.need(before), r.need(now)
	if want.CPUs > r.Max.CPUs && want.CPUs > was.CPUs {
		return fmt.Errorf("%d CPUs are needed, and the virtual machine can have at most %d (vm.max_cpus): %w",
			want.CPUs, r.Max.CPUs, errdefs.ErrInvalidArgument)
	}
	if want.MemoryMiB > r.Max.MemoryMiB && want.MemoryMiB > was.MemoryMiB {
		return fmt.Errorf("%d MiB of memory are needed, the guest's own %d included, and the virtual machine can have at most %d (vm.max_memory_mib): %w",
			want.MemoryMiB, guestMiB, r.Max.MemoryMiB, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Overhead is what a sandbox takes of the host beside what its containers may
// use: the VMM, the sandbox process and the file sharing daemon.
type Overhead struct {
	MilliCPUs int64
	MemoryMiB int
}

// Host is what the host lets all processes of a sandbox take whose machine has
// this size: no time is limited that the containers are not limited in. Memory is
// the whole machine's, for a guest keeps what it has read; and it is always
// limited, for a guest could write to memory that it was not given yet.
func (o Overhead) Host(d Demand, size Size) Demand {
	if d.MilliCPUs > 0 {
		d.MilliCPUs += o.MilliCPUs
	}
	d.MemoryBytes = int64(size.MemoryMiB+o.MemoryMiB) * mebibyte
	return d
}
