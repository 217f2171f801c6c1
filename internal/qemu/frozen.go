package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

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
func frozenTap(i int) string  { return fmt.Sprintf("tap%d", i) }

// Freeze keeps QEMU itself in a directory, with all that it has translated. The
// guest must be stopped, and the machine have a Memory of its own that is
// shared, no shares, and no tap with more than one queue; the files of its disks
// must still be open. This process must have started it, and so know the numbers
// of its files. The machine goes on to be of use.
func (m *Machine) Freeze(ctx context.Context, dir string) error {
	if m.fds.QMP == 0 {
		return fmt.Errorf("freeze machine %q: it was not started by this process", m.spec.Name)
	}
	known := freeze.Known{
		Numbers: map[int]string{unix.Stderr: frozenStderr, m.fds.QMP: frozenQMP, m.fds.Agent: frozenAgent, m.fds.Console: frozenConsole},
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
	for i, queues := range m.fds.Taps {
		for _, fd := range queues {
			known.Numbers[fd] = frozenTap(i)
		}
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
	if err := agreeTaps(spec, p.Files); err != nil {
		l.close()
		return nil, fmt.Errorf("machine %q: %w", spec.Name, err)
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

// What QEMU and a Linux guest agree on: frames with a header of a virtio device of
// version 1, and those that are not checked and cut yet. Other things that later
// QEMUs offer only make frames larger.
const (
	tapHeader   = 12
	tapOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
)

// agreeTaps has new taps know what the frozen QEMU has told its own, and adds them
// to files.
func agreeTaps(spec vmm.MachineSpec, files map[string]*os.File) error {
	for i, n := range spec.NICs {
		if n.Tap == nil {
			continue
		}
		tap := n.Tap.Files[0]
		raw, err := tap.SyscallConn()
		if err != nil {
			return fmt.Errorf("NIC %q: %w", n.ID, err)
		}
		var agreed error
		err = raw.Control(func(fd uintptr) {
			agreed = errors.Join(unix.IoctlSetPointerInt(int(fd), unix.TUNSETVNETHDRSZ, tapHeader), unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, tapOffloads))
		})
		if err := errors.Join(err, agreed); err != nil {
			return fmt.Errorf("NIC %q: set up its tap: %w", n.ID, err)
		}
		files[frozenTap(i)] = tap
	}
	return nil
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
