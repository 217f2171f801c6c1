package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrUnknownEnd says that a process has ended which was another's child: how
// it ended only that one was told.
var ErrUnknownEnd = errors.New("it has ended, and how is not known")

// leaseName is what a program is called that ties itself to its lease before
// it becomes another.
const leaseName = "dougong-lease"

// StartLeased runs cmd so that the kernel kills it when nobody holds the
// lease any more: other than this process, the lease can be handed on.
//
// The lease is a pipe. Its reading end, which the command inherits, signals
// its owner when it can be read, and by SIGKILL: that is, when the last writing
// end is closed, however that comes. The command must be its own owner before
// it does anything, so it is this program first: see Leased.
func StartLeased(cmd *exec.Cmd) (p *Process, lease *os.File, err error) {
	read, lease, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make lease: %w", err)
	}
	defer read.Close()
	cmd.ExtraFiles = append(cmd.ExtraFiles, read)
	cmd.Args = append([]string{leaseName, strconv.Itoa(2 + len(cmd.ExtraFiles)), cmd.Path}, cmd.Args...)
	cmd.Path = "/proc/self/exe"
	if err := cmd.Start(); err != nil {
		_ = lease.Close()
		return nil, nil, fmt.Errorf("start %s: %w", cmd.Args[2], err)
	}
	return follow(cmd.Process, cmd.Wait), lease, nil
}

// Leased becomes the program that StartLeased was asked for, if this process
// is one that it has started; it returns then only with an error. It must be
// called before anything else.
func Leased() error {
	if len(os.Args) < 4 || os.Args[0] != leaseName {
		return nil
	}
	if err := becomeLeased(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		return fmt.Errorf("start %s: %w", os.Args[2], err)
	}
	return nil
}

func becomeLeased(lease, path string, args []string) error {
	fd, err := strconv.Atoi(lease)
	if err != nil {
		return err
	}
	if err := tie(fd); err != nil {
		return fmt.Errorf("tie it to its lease: %w", err)
	}
	return unix.Exec(path, args, os.Environ())
}

// errLease says that the lease was given up before this process was tied to it.
var errLease = errors.New("nobody holds the lease")

// tie has the kernel kill this process when the pipe that fd reads has no
// writer.
func tie(fd int) error {
	for _, step := range []struct{ command, value int }{
		{unix.F_SETSIG, int(unix.SIGKILL)}, {unix.F_SETOWN, os.Getpid()}, {unix.F_SETFL, unix.O_ASYNC},
	} {
		if _, err := unix.FcntlInt(uintptr(fd), step.command, step.value); err != nil {
			return err
		}
	}
	poll := []unix.PollFd{{Fd: int32(fd)}}
	if n, err := unix.Poll(poll, 0); err != nil || n > 0 {
		return errors.Join(errLease, err)
	}
	return nil
}

// PIDFD opens a descriptor of the process that no other can come to stand for.
func (p *Process) PIDFD() (*os.File, error) {
	fd, err := unix.PidfdOpen(p.PID(), unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", p.PID(), err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// Adopt takes over a process that another has started, by its PIDFD and its
// lease, both of which it then owns. Its Err is ErrUnknownEnd when it has ended.
func Adopt(pid int, pidfd, lease *os.File) *Process {
	p := &Process{pid: pid, done: make(chan struct{}), kill: func() {
		_ = lease.Close()
		signal(pidfd)
	}}
	go func() {
		p.err = errors.Join(ErrUnknownEnd, await(pidfd))
		_ = lease.Close()
		_ = pidfd.Close()
		close(p.done)
	}()
	return p
}

// signal kills the process behind pidfd, if it has not ended.
func signal(pidfd *os.File) {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
}

// await returns when the process behind pidfd has ended: it can be read then.
func await(pidfd *os.File) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var polled error
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		var n int
		if n, polled = unix.Poll(poll, 0); errors.Is(polled, unix.EINTR) {
			polled, n = nil, 0
		}
		return n > 0 || polled != nil
	})
	return errors.Join(err, polled)
}
