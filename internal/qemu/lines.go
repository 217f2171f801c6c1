package qemu

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/vmm"
)

// lines are what connects this process to QEMU. Each has an end for either.
type lines struct {
	qmp, agent, console *net.UnixConn
	stderr              *os.File
	child               childFiles
}

// childFiles are QEMU's ends, to be closed here once QEMU has them.
type childFiles struct {
	qmp, agent, console, stderr, kernel, initrd *os.File
}

// newLines makes all lines or none.
func newLines() (*lines, error) {
	l := new(lines)
	for _, line := range []struct {
		ours   **net.UnixConn
		theirs **os.File
	}{{&l.qmp, &l.child.qmp}, {&l.agent, &l.child.agent}, {&l.console, &l.child.console}} {
		ours, theirs, err := socketPair()
		if err != nil {
			l.close()
			return nil, err
		}
		*line.ours, *line.theirs = ours, theirs
	}
	var err error
	if l.stderr, l.child.stderr, err = os.Pipe(); err != nil {
		l.close()
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	return l, nil
}

// openKernel opens the files that QEMU boots.
func (l *lines) openKernel(spec vmm.MachineSpec) (err error) {
	if l.child.kernel, err = os.Open(spec.Kernel); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if l.child.initrd, err = os.Open(spec.Initrd); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	return nil
}

// close gives up QEMU's ends.
func (c *childFiles) close() {
	for _, f := range []*os.File{c.qmp, c.agent, c.console, c.stderr, c.kernel, c.initrd} {
		if f != nil {
			f.Close()
		}
	}
}

// close gives up everything. It and the child's close may each be called
// after the other: a file that is closed twice only says so.
func (l *lines) close() {
	l.child.close()
	for _, c := range []*net.UnixConn{l.qmp, l.agent, l.console} {
		if c != nil {
			c.Close()
		}
	}
	if l.stderr != nil {
		l.stderr.Close()
	}
}

// socketPair makes two connected sockets, one to use and one to pass on.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "line"), os.NewFile(uintptr(fds[1]), "line")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("use a socket pair: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}
