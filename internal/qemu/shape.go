package qemu

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/vmm"
)

// Shape describes everything about a machine that must be the same in another
// one which is to go on from its saved state: the hardware, the kernel with
// its command line, and QEMU itself. What differs from clone to clone is left
// out: names, files behind disks, host ports, and shares, which are plugged in
// later.
func Shape(c Config, spec vmm.MachineSpec) ([]string, error) {
	binary, err := FindBinary(c.Binary)
	if err != nil {
		return nil, err
	}
	var parts []string
	for _, path := range []string{binary, spec.Kernel, spec.Initrd} {
		id, err := fileIdentity(path)
		if err != nil {
			return nil, err
		}
		parts = append(parts, id)
	}
	if spec.Accelerator == vmm.KVM {
		model, err := cpuIdentity()
		if err != nil {
			return nil, err
		}
		parts = append(parts, model)
	}
	spec = Blank(spec)
	fds := FDs{Disks: make([]DiskFD, len(spec.Disks))}
	for _, n := range spec.NICs {
		var queues []int
		if n.Tap != nil {
			queues = make([]int, len(n.Tap.Files))
		}
		fds.Taps = append(fds.Taps, queues)
	}
	args, err := Args(spec, fds)
	return append(parts, args...), err
}

// FirstGeneration is that of every machine that is saved.
const FirstGeneration = "00000000-0000-0000-0000-000000000001"

// Blank is the machine of which a saved state serves every clone of spec: the
// same hardware with nothing of a sandbox in it. Its disks have no files yet, and
// its taps those of spec.
func Blank(spec vmm.MachineSpec) vmm.MachineSpec {
	spec.Name, spec.Memory, spec.Saved, spec.Shares = "template", nil, false, nil
	if spec.Generation != "" {
		spec.Generation = FirstGeneration
	}
	disks := make([]vmm.Disk, len(spec.Disks))
	for i, d := range spec.Disks {
		disks[i] = vmm.Disk{Serial: DiskSerial(i), ReadOnly: d.ReadOnly, File: d.File}
	}
	spec.Disks = disks
	nics := make([]vmm.NIC, len(spec.NICs))
	for i, n := range spec.NICs {
		nics[i] = vmm.NIC{ID: n.ID, MAC: n.MAC, Tap: n.Tap}
		if n.User != nil {
			nics[i].User = &vmm.UserNetwork{Restrict: true}
		}
	}
	spec.NICs = nics
	return spec
}

// fileIdentity changes whenever a file is replaced or written to. Its path does
// not count: no guest sees it.
func fileIdentity(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("identify %s: %w", path, err)
	}
	return fmt.Sprintf("%d:%d %d %d.%d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec), nil
}

// cpuIdentity is the host's CPU, which a KVM guest has seen.
func cpuIdentity() (string, error) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", fmt.Errorf("identify the CPU: %w", err)
	}
	var lines []string
	for line := range strings.Lines(string(info)) {
		name, _, _ := strings.Cut(line, "\t")
		switch name {
		case "model name", "flags", "stepping", "microcode":
			lines = append(lines, line)
		case "\n":
			return strings.Join(lines, ""), nil
		}
	}
	return strings.Join(lines, ""), nil
}
