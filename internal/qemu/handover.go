package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/child"
	"dougong.dev/dougong/internal/vmm"
)

// handles is how many files a machine is held by, beside one for each of its
// taps; see Handles.
const handles = 6

// holdTaps keeps what a machine that is to be handed on needs for its taps to
// be put where they belong.
func (m *Machine) holdTaps() error {
	if m.lease == nil {
		return nil
	}
	return m.nics.hold(m.spec.NICs)
}

// Queues are one file of each tap of an adopted machine, in the order of its
// NICs, by which the tap can be found. They are the caller's, who closes them:
// frames may come in by each.
func (m *Machine) Queues() []*os.File { return m.nics.takeQueues() }

// taps is how many NICs of a machine have one.
func taps(spec vmm.MachineSpec) int {
	n := 0
	for _, nic := range spec.NICs {
		if nic.Tap != nil {
			n++
		}
	}
	return n
}

// Pause stops the guest. Continue lets it go on.
func (m *Machine) Pause(ctx context.Context) error {
	if err := m.qmp.Execute(ctx, "stop", nil, nil); err != nil {
		return fmt.Errorf("stop machine: %w", err)
	}
	return nil
}

// Continue lets a guest that was stopped go on.
func (m *Machine) Continue(ctx context.Context) error {
	if err := m.qmp.Execute(ctx, "cont", nil, nil); err != nil {
		return fmt.Errorf("resume machine: %w", err)
	}
	return nil
}

// Handles returns copies of the files that a machine is held by, for another
// process to Adopt it. The machine must be Leased and its guest stopped, so
// that nothing is on its way to this process. The caller closes them.
func (m *Machine) Handles() ([]*os.File, error) {
	if m.lease == nil {
		return nil, errors.New("the machine was not started to be handed on")
	}
	var files []*os.File
	for _, c := range []syscall.Conn{m.lines.qmp, m.lines.agent, m.lines.console, m.lines.stderr, m.lease} {
		f, err := duplicate(c)
		if err != nil {
			closeFiles(files)
			return nil, fmt.Errorf("hand machine on: %w", err)
		}
		files = append(files, f)
	}
	// From here on the machine is good for nothing but to be handed on.
	queues := m.nics.takeQueues()
	pidfd, err := m.process.PIDFD()
	if err != nil {
		closeFiles(files)
		closeFiles(queues)
		return nil, fmt.Errorf("hand machine on: %w", err)
	}
	return append(append(files, pidfd), queues...), nil
}

// Let gives up this process's hold of a machine. Unless somebody else holds
// it, the machine ends.
func (m *Machine) Let() {
	_ = m.lease.Close()
	_ = m.qmp.Close()
	_ = m.agent.Close()
	_ = m.lines.console.Close()
	_ = m.lines.stderr.Close()
}

// Adopt takes over a machine by its Handles, of which it owns all from then on,
// after an error too. The spec is what the machine was started for.
func Adopt(c Config, spec vmm.MachineSpec, pid int, files []*os.File) (*Machine, error) {
	if want := handles + taps(spec); len(files) != want {
		closeFiles(files)
		return nil, fmt.Errorf("take machine over: %d files and not %d", len(files), want)
	}
	l := new(lines)
	for i, to := range []**net.UnixConn{&l.qmp, &l.agent, &l.console} {
		conn, err := net.FileConn(files[i])
		if err == nil {
			var ok bool
			if *to, ok = conn.(*net.UnixConn); !ok {
				_ = conn.Close()
				err = fmt.Errorf("file %d is no UNIX socket", i)
			}
		}
		if err != nil {
			l.close()
			closeFiles(files)
			return nil, fmt.Errorf("take machine over: %w", err)
		}
	}
	closeFiles(files[:3])
	l.stderr = files[3]
	m := newMachine(child.Adopt(pid, files[5], files[4]), nil, l, spec)
	m.nics.queues = files[handles:]
	m.follow(c, spec)
	return m, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// duplicate returns another descriptor of the same file.
func duplicate(c syscall.Conn) (*os.File, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dup error
	if err := raw.Control(func(old uintptr) { fd, dup = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dup != nil {
		return nil, fmt.Errorf("duplicate descriptor: %w", dup)
	}
	return os.NewFile(uintptr(fd), "handle"), nil
}
