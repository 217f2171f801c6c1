// Package containerinit is pid 1 of containers run with --init: it starts the
// command, hands signals on to it, reaps orphans and ends with its status.
//
// It runs inside the container, from the agent's binary, and so must not rely
// on anything of the guest: no paths, no network, no other process.
package containerinit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit codes as shells and Docker use them.
const (
	exitFailed      = 125
	exitNoPerm      = 126
	exitNotFound    = 127
	exitSignalShift = 128
)

// Run starts the command in args (after an optional "--") and returns its exit
// code: 128 plus the signal when one killed it, 126 or 127 when it could not
// be started.
func Run(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "dougong-init: no command specified")
		return exitFailed
	}
	// Before the start, so that no signal finds pid 1 without a handler and is lost.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	defer signal.Stop(signals)
	pid, err := start(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "dougong-init: start %q: %v\n", args[0], err)
		return startCode(err)
	}
	c := &child{pid: pid}
	go c.forward(signals)
	return c.reap()
}

// start runs the command in a process group of its own, so that a signal typed
// at the terminal reaches it once and not a second time through us.
func start(args []string) (int, error) {
	path, err := exec.LookPath(args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return 0, err
	}
	attr := &syscall.SysProcAttr{Setpgid: true}
	if _, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil {
		attr.Foreground, attr.Ctty = true, 0
	}
	return syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: attr})
}

func startCode(err error) int {
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOEXEC), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EACCES):
		return exitNoPerm
	}
	return exitFailed
}

// child is the command. Its pid may be signalled only until it is reaped.
type child struct {
	pid int

	mu     sync.Mutex
	reaped bool
}

// forward hands signals on, but for SIGCHLD, which is for us, and SIGURG, by
// which the Go runtime stops its own threads.
func (c *child) forward(signals <-chan os.Signal) {
	for s := range signals {
		sig, ok := s.(syscall.Signal)
		if !ok || sig == unix.SIGCHLD || sig == unix.SIGURG {
			continue
		}
		c.mu.Lock()
		if !c.reaped {
			// The command may be gone already; reap will tell.
			_ = unix.Kill(c.pid, sig)
		}
		c.mu.Unlock()
	}
}

// reap collects every process that ends until it is the command. It waits
// without collecting first, so that the pid is not free while it is signalled.
func (c *child) reap() int {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return exitFailed
		}
		if status, done := c.collect(); done {
			return exitCode(status)
		}
	}
}

// collect reaps what has ended, and reports the command's status when it is
// among that.
func (c *child) collect() (unix.WaitStatus, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid <= 0:
			return 0, false
		case pid == c.pid:
			c.reaped = true
			return status, true
		}
	}
}

func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return exitSignalShift + int(status.Signal())
	}
	return status.ExitStatus()
}
