package qemu

import (
	"context"
	"fmt"
	"os"

	"dougong.dev/dougong/internal/freeze"
	"dougong.dev/dougong/internal/vmm"
)

// Names of the files of a frozen QEMU.
const (
	frozenStderr  = "stderr"
	frozenQMP     = "qmp"
	frozenAgent   = "agent"
	frozenConsole = "console"
	frozenKernel  = "kernel"
	frozenInitrd  = "initrd"
	frozenMemory  = "memory"
)

func frozenDisk(i int) string { return fmt.Sprintf("disk%d", i) }

// Freeze keeps QEMU itself in a directory, with all that it has translated. The
// guest must be stopped, and the machine have a Memory of its own that is
// shared, and neither shares nor taps; the files of its disks must still be open.
// The machine goes on to be of use.
func (m *Machine) Freeze(ctx context.Context, dir string) error {
	known := freeze.Known{
		Numbers: map[int]string{2: frozenStderr, 3: frozenQMP, 4: frozenAgent, 5: frozenConsole},
		Files:   map[freeze.FileID]string{},
	}
	// These are open under other numbers, or mapped.
	files := map[string]*os.File{frozenMemory: m.spec.Memory.File}
	for i, d := range m.spec.Disks {
		files[frozenDisk(i)] = d.File
	}
	for name, path := range map[string]string{frozenKernel: m.spec.Kernel, frozenInitrd: m.spec.Initrd} {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("freeze machine: %s: %w", name, err)
		}
		defer f.Close()
		files[name] = f
	}
	for name, f := range files {
		id, err := freeze.Identify(f)
		if err != nil {
			return fmt.Errorf("freeze machine: %s: %w", name, err)
		}
		known.Files[id] = name
	}
	return freeze.Freeze(ctx, m.PID(), dir, known)
}

// Thaw starts a machine as a copy of a frozen one, whose guest is stopped. The
// spec is that of the frozen one but for the files, which stay the caller's. Its
// Memory is open for reading alone where it is private.
func Thaw(c Config, spec vmm.MachineSpec, image *freeze.Image) (*Machine, error) {
	l, err := newLines()
	if err != nil {
		return nil, fmt.Errorf("machine %q: %w", spec.Name, err)
	}
	defer l.child.close()
	if err := l.openKernel(spec); err != nil {
		l.close()
		return nil, fmt.Errorf("machine %q: %w", spec.Name, err)
	}
	p := freeze.Places{
		Files: map[string]*os.File{
			frozenStderr: l.child.stderr, frozenQMP: l.child.qmp, frozenAgent: l.child.agent, frozenConsole: l.child.console,
			frozenKernel: l.child.kernel, frozenInitrd: l.child.initrd, frozenMemory: spec.Memory.File,
		},
		Title: frozenTitle(spec),
		Attr:  processAttributes(c, spec, os.Geteuid() == 0, nil),
	}
	if !spec.Memory.Private {
		p.Shared = []string{frozenMemory}
	}
	for i, d := range spec.Disks {
		p.Files[frozenDisk(i)] = d.File
	}
	process, err := image.Thaw(p)
	if err != nil {
		l.close()
		return nil, fmt.Errorf("machine %q: %w", spec.Name, err)
	}
	m := newMachine(process, nil, l, spec)
	m.follow(c, spec)
	return m, nil
}

// frozenTitle is what others see of a copy: how QEMU would be started for it,
// without the numbers of files.
func frozenTitle(spec vmm.MachineSpec) []string {
	args, err := Args(spec, FDs{Disks: make([]DiskFD, len(spec.Disks)), Shares: make([]int, len(spec.Shares)), Taps: make([][]int, len(spec.NICs))})
	if err != nil {
		args = []string{"-name", "guest=" + escape(spec.Name)}
	}
	return append([]string{"qemu-system-x86_64"}, args...)
}
