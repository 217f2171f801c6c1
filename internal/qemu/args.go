package qemu

import (
	"fmt"
	"strconv"

	"dougong.dev/dougong/internal/vmm"
)

// AgentPort is the name of the virtio-serial port that leads to the agent.
const AgentPort = "dev.dougong.agent"

// FDs says under which numbers QEMU inherits its files.
type FDs struct {
	// QMP, Agent and Console are connected UNIX sockets.
	QMP, Agent, Console int
	// Kernel and Initrd are open for reading, so that the paths need not be
	// reachable for QEMU's user; the files themselves must be readable to it.
	Kernel, Initrd int
	// Memory is that of the spec, if it has any.
	Memory int
	// Disks and Shares are in the order of the spec.
	Disks  []DiskFD
	Shares []int
	// Taps are the queues of each NIC in the order of the spec, none for one of
	// another kind.
	Taps [][]int
}

// DiskFD is the file behind a disk.
type DiskFD struct {
	FD int
	// Block is set for a block device, which QEMU opens by another driver.
	Block bool
}

// What does not depend on the machine: no device, file or window that was not
// asked for, the end of QEMU at the guest's first reset, and every system call
// filter there is.
var fixedArgs = []string{
	"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
	"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
}

// Args is QEMU's command line, without the program's name, for a machine. It
// is a pure function; its only errors are those of a spec that cannot work.
func Args(spec vmm.MachineSpec, fds FDs) ([]string, error) {
	if err := validate(spec); err != nil {
		return nil, err
	}
	if len(fds.Disks) != len(spec.Disks) || len(fds.Shares) != len(spec.Shares) || len(fds.Taps) != len(spec.NICs) {
		return nil, fmt.Errorf("machine %q: %d files for %d disks, %d sockets for %d shares, %d lists of queues for %d NICs",
			spec.Name, len(fds.Disks), len(spec.Disks), len(fds.Shares), len(spec.Shares), len(fds.Taps), len(spec.NICs))
	}
	args := append([]string{"-name", "guest=" + escape(spec.Name)}, fixedArgs...)
	args = append(args, machineArgs(spec, fds)...)
	args = append(args, kernelArgs(spec, fds)...)
	args = append(args, lineArgs(fds)...)
	args = append(args, commonDeviceArgs(spec)...)
	for i, d := range spec.Disks {
		args = append(args, diskArgs(i, d, fds.Disks[i])...)
	}
	for i, n := range spec.NICs {
		args = append(args, nicArgs(i, n, fds.Taps[i])...)
	}
	for i, s := range spec.Shares {
		args = append(args, shareArgs(i, s, fds.Shares[i])...)
	}
	return append(args, stateArgs(spec)...), nil
}

// machineArgs describe board, CPUs and memory. docs/design/machine.md has the
// measurements behind the choices.
func machineArgs(spec vmm.MachineSpec, fds FDs) []string {
	machine := "q35,memory-backend=mem,usb=off,sata=off,smbus=off,vmport=off,i8042=off,hpet=off,smm=off"
	return []string{
		"-machine", machine,
		"-bios", firmware(spec),
		"-accel", accelerator(spec),
		"-cpu", cpuModel(spec.Accelerator),
		"-smp", fmt.Sprintf("cpus=%d,maxcpus=%d,sockets=%[2]d,cores=1,threads=1", firstCPUs(spec), max(spec.CPUs, spec.MaxCPUs)),
		"-m", memorySize(spec),
		"-object", memoryBackend(spec, fds),
	}
}

// firstCPUs is how many CPUs there are from the beginning. Emulated ones cannot
// come later: QEMU 7.2 aborts when the cache of translated code has no region
// left for a CPU's first block, and nobody can have it emptied. So they are all
// there, and the guest is told how many of them to use.
func firstCPUs(spec vmm.MachineSpec) int {
	if spec.Accelerator == vmm.TCG {
		return max(spec.CPUs, spec.MaxCPUs)
	}
	return spec.CPUs
}

// memorySize is the guest's memory, with the room for what is plugged in later.
func memorySize(spec vmm.MachineSpec) string {
	size := "size=" + strconv.Itoa(spec.MemoryMiB) + "M"
	if growth(spec) > 0 {
		size += ",maxmem=" + strconv.Itoa(spec.MemoryMiB+growth(spec)) + "M"
	}
	return size
}

// growth is how many MiB can be plugged in later, in whole blocks.
func growth(spec vmm.MachineSpec) int {
	return max(spec.MaxMemoryMiB-spec.MemoryMiB, 0) / memoryStepMiB * memoryStepMiB
}

// firmware is qboot, which is half as long on the way to the kernel's first
// instruction as SeaBIOS, but stops when it finds a generation device. Clones
// run no firmware, so that there only the making of templates takes longer.
func firmware(spec vmm.MachineSpec) string {
	if spec.Generation != "" {
		return "bios-256k.bin"
	}
	return "qboot.rom"
}

// Bounds of TCG's cache of translated code in MiB. It never shrinks. A boot and
// the first container fill 70: with less, what was translated is thrown away on
// the way, and the container is the slower for it. But the cache is most of
// what a small idle machine costs, so one of up to smallGuest MiB gets the
// least, and larger ones a share of what they have more. A clone begins with
// nothing translated: with room for all that the start of a container takes, it
// translates nothing twice, and what it has no use for costs nothing.
const (
	minTCGCache   = 14
	cloneTCGCache = 64
	maxTCGCache   = 128
	smallGuest    = 256
	tcgCacheShare = 2
)

func accelerator(spec vmm.MachineSpec) string {
	if spec.Accelerator == vmm.KVM {
		return "kvm"
	}
	least := minTCGCache
	if spec.Saved {
		least = cloneTCGCache
	}
	return "tcg,thread=multi,tb-size=" + strconv.Itoa(min(max((spec.MemoryMiB-smallGuest)/tcgCacheShare, least), maxTCGCache))
}

// cpuModel is for KVM the host's own CPU and for TCG all that it can do
// (x86-64-v3), but for what makes an emulated machine slower: 5-level page
// tables, and the promise that byte-wise string moves are fast.
func cpuModel(a vmm.Accelerator) string {
	if a == vmm.KVM {
		return "host"
	}
	return "max,la57=off,erms=off"
}

// memoryBackend is a shared memfd unless the spec brings its memory. Devices
// that another process serves need shared memory, and for the rest it is the
// cheaper kind on a host whose kernel gives anonymous memory huge pages: a
// guest touches little of most of them.
func memoryBackend(spec vmm.MachineSpec, fds FDs) string {
	size := "size=" + strconv.Itoa(spec.MemoryMiB) + "M"
	if spec.Memory == nil {
		return option("memory-backend-memfd", "id=mem", size, "share=on")
	}
	path := "/proc/self/fd/" + strconv.Itoa(fds.Memory)
	if spec.Memory.Name != "" {
		path += "/" + escape(spec.Memory.Name)
	}
	share := "share=on"
	if spec.Memory.Private {
		share = "share=off"
	}
	return option("memory-backend-file", "id=mem", size, "mem-path="+path, share, "discard-data=off", "prealloc=off")
}

// stateArgs have a machine wait until QMP is there, which tells of its end only
// to those who have shaken hands, and a saved one for Resume, which says where
// its state is.
func stateArgs(spec vmm.MachineSpec) []string {
	if !spec.Saved {
		return []string{"-S"}
	}
	return []string{"-S", "-incoming", "defer"}
}

func kernelArgs(spec vmm.MachineSpec, fds FDs) []string {
	path := func(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
	return []string{"-kernel", path(fds.Kernel), "-initrd", path(fds.Initrd), "-append", spec.Cmdline}
}
