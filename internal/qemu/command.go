package qemu

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/tsc"
	"dougong.dev/dougong/internal/vmm"
)

// Config says how QEMU is run. The zero value runs what PATH has, as the
// caller's own user.
type Config struct {
	// Binary is the path of QEMU; empty looks in PATH.
	Binary string
	// UID and GID are QEMU's user and group; 0 changes nothing. The kernel
	// and the initramfs must be readable to them.
	UID, GID uint32
	// Cgroup is an open cgroup v2 directory that QEMU is born into, or nil.
	Cgroup *os.File
	// Console gets all that the guest prints, as it is, beside what
	// Machine.Console keeps; nil for nobody. It must not block for long, for
	// the guest's console waits, and the machine's end too.
	Console io.Writer
	// Leased starts a machine that can be handed on to another process: the
	// kernel ends it when nobody holds it any more, and not with its parent.
	Leased bool
}

// childEnv is all of QEMU's environment. Error texts must be in English, and
// one arena is enough for its few threads.
var childEnv = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "MALLOC_ARENA_MAX=1"}

// firstFD is the number of the first of exec.Cmd's ExtraFiles.
const firstFD = 3

// inheritance collects the files that QEMU is to inherit, and their numbers.
type inheritance struct {
	files []*os.File
	fds   FDs
}

// add returns the number that f will have in QEMU.
func (in *inheritance) add(f *os.File) int {
	in.files = append(in.files, f)
	return firstFD + len(in.files) - 1
}

// attach adds what the spec brings along.
func (in *inheritance) attach(spec vmm.MachineSpec) error {
	for _, d := range spec.Disks {
		block, err := checkDisk(d)
		if err != nil {
			return fmt.Errorf("disk %q: %w", d.Serial, err)
		}
		in.fds.Disks = append(in.fds.Disks, DiskFD{FD: in.add(d.File), Block: block})
	}
	if spec.Memory != nil {
		in.fds.Memory = in.add(spec.Memory.File)
	}
	for _, n := range spec.NICs {
		var queues []int
		if n.Tap != nil {
			if err := checkQueues(n); err != nil {
				return err
			}
			for _, f := range n.Tap.Files {
				queues = append(queues, in.add(f))
			}
		}
		in.fds.Taps = append(in.fds.Taps, queues)
	}
	for _, s := range spec.Shares {
		if s.Socket == nil {
			return fmt.Errorf("share %q has no socket", s.Tag)
		}
		in.fds.Shares = append(in.fds.Shares, in.add(s.Socket))
	}
	return nil
}

// checkQueues refuses a tap that is only described.
func checkQueues(n vmm.NIC) error {
	if slices.Contains(n.Tap.Files, nil) {
		return fmt.Errorf("NIC %q: a queue of the tap is missing", n.ID)
	}
	return nil
}

// command prepares QEMU's process, and tells under which numbers it has its files.
func command(c Config, spec vmm.MachineSpec, f *childFiles) (*exec.Cmd, FDs, error) {
	binary, err := FindBinary(c.Binary)
	if err != nil {
		return nil, FDs{}, err
	}
	var in inheritance
	in.fds.QMP, in.fds.Agent, in.fds.Console = in.add(f.qmp), in.add(f.agent), in.add(f.console)
	in.fds.Kernel, in.fds.Initrd = in.add(f.kernel), in.add(f.initrd)
	if err := in.attach(spec); err != nil {
		return nil, FDs{}, fmt.Errorf("machine %q: %w", spec.Name, err)
	}
	args, err := Args(clocked(spec, tsc.KHz), in.fds)
	if err != nil {
		return nil, FDs{}, err
	}
	cmd := exec.Command(binary, args...)
	cmd.Env, cmd.Dir = childEnv, "/"
	cmd.ExtraFiles, cmd.Stderr = in.files, f.stderr
	cmd.SysProcAttr = processAttributes(c, spec, os.Geteuid() == 0, kvmGroup(spec.Accelerator))
	return cmd, in.fds, nil
}

// checkDisk tells a block device from a regular file, and refuses anything
// else, and a file that is not open the way the disk needs it.
func checkDisk(d vmm.Disk) (block bool, err error) {
	if d.File == nil {
		return false, fmt.Errorf("no file")
	}
	info, err := d.File.Stat()
	if err != nil {
		return false, err
	}
	flags, err := openFlags(d.File)
	if err != nil {
		return false, err
	}
	want, text := unix.O_RDWR, "reading and writing"
	if d.ReadOnly {
		want, text = unix.O_RDONLY, "reading only"
	}
	if flags&unix.O_ACCMODE != want {
		return false, fmt.Errorf("%s is not open for %s", d.File.Name(), text)
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return false, nil
	case mode.Type() == os.ModeDevice:
		return true, nil
	}
	return false, fmt.Errorf("%s is neither a regular file nor a block device", d.File.Name())
}

func openFlags(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var flags int
	var flagsErr error
	if err := raw.Control(func(fd uintptr) { flags, flagsErr = unix.FcntlInt(fd, unix.F_GETFL, 0) }); err != nil {
		return 0, err
	}
	return flags, flagsErr
}

// kvmGroup is the group that may open /dev/kvm, for a QEMU that needs it.
func kvmGroup(a vmm.Accelerator) []uint32 {
	var st unix.Stat_t
	if a != vmm.KVM || unix.Stat("/dev/kvm", &st) != nil {
		return nil
	}
	return []uint32{st.Gid}
}

// processAttributes give QEMU its user and its view of the host. Only root
// can narrow the view: own mounts and IPC, and without a user network no
// network either.
func processAttributes(c Config, spec vmm.MachineSpec, root bool, groups []uint32) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if root {
		attr.Unshareflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC
		if !usesHostNetwork(spec) {
			attr.Unshareflags |= syscall.CLONE_NEWNET
		}
	}
	if c.UID != 0 || c.GID != 0 {
		attr.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: groups}
		if needsLowPort(spec) {
			attr.AmbientCaps = []uintptr{unix.CAP_NET_BIND_SERVICE}
		}
	}
	if c.Cgroup != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(c.Cgroup.Fd())
	}
	return attr
}

// usesHostNetwork says that QEMU opens connections itself. The tap of a NIC it
// has as a file, wherever it is.
func usesHostNetwork(spec vmm.MachineSpec) bool {
	return slices.ContainsFunc(spec.NICs, func(n vmm.NIC) bool { return n.User != nil })
}

// NeedsPrivilege says that a machine must be started with a privilege that others
// lack: QEMU is to listen on a port that is root's.
func NeedsPrivilege(spec vmm.MachineSpec) bool { return needsLowPort(spec) }

// needsLowPort says that QEMU must listen on a port that is root's.
func needsLowPort(spec vmm.MachineSpec) bool {
	for _, n := range spec.NICs {
		if n.User == nil {
			continue
		}
		for _, f := range n.User.Forwards {
			if f.HostPort < 1024 {
				return true
			}
		}
	}
	return false
}
