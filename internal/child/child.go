// Package child starts the helper processes of a sandbox (VMM, file sharing
// daemon) so that none of them can outlive it.
//
// It owns the start and the wait of such a process. It must not know what the
// process is for.
package child

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// starter is the one thread that forks. The kernel ties PDEATHSIG to the
// parent thread, not to the process, and the Go runtime ends idle threads: a
// child forked anywhere else could be killed while its parent is well.
var starter = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// Process is a running child.
type Process struct {
	pid  int
	kill func()
	done chan struct{}
	err  error
}

// Start runs cmd so that the kernel kills it when this process ends, however
// it ends.
func Start(cmd *exec.Cmd) (*Process, error) { return start(cmd, cmd.Start) }

// StartSwitching runs cmd like Start, and lets it keep its capabilities where it
// takes on the ids of other users for a while. It is for one that makes files in
// their names, when somebody else has found that they may.
func StartSwitching(cmd *exec.Cmd) (*Process, error) {
	return start(cmd, func() error {
		// What a thread has set is inherited. A host where this is not possible
		// is one where fewer files can be made.
		if before, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0); err == nil {
			_ = unix.Prctl(unix.PR_SET_SECUREBITS, uintptr(before)|noSetuidFixup, 0, 0, 0)
			defer func() { _ = unix.Prctl(unix.PR_SET_SECUREBITS, uintptr(before), 0, 0, 0) }()
		}
		return cmd.Start()
	})
}

// noSetuidFixup is the kernel's SECBIT_NO_SETUID_FIXUP.
const noSetuidFixup = 1 << 2

// start has the starter's thread run begin.
func start(cmd *exec.Cmd, begin func() error) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	starter() <- func() { started <- begin() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return follow(cmd.Process, cmd.Wait), nil
}

// StartWith is Start, and calls prepare on the thread that is the child's
// parent before anybody waits for the child. After an error of it nothing is
// left of the child.
func StartWith(cmd *exec.Cmd, prepare func(pid int) error) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	starter() <- func() {
		err := cmd.Start()
		if err != nil {
			started <- fmt.Errorf("start %s: %w", cmd.Path, err)
			return
		}
		if err = prepare(cmd.Process.Pid); err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		started <- err
	}
	if err := <-started; err != nil {
		return nil, err
	}
	return follow(cmd.Process, cmd.Wait), nil
}

// follow waits for the end of a process.
func follow(process *os.Process, wait func() error) *Process {
	// An error of Kill means that it has ended already.
	p := &Process{pid: process.Pid, kill: func() { _ = process.Kill() }, done: make(chan struct{})}
	go func() {
		p.err = wait()
		close(p.done)
	}()
	return p
}

// PID returns the process id.
func (p *Process) PID() int { return p.pid }

// Done is closed when the process has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns how the process ended, nil for exit status 0. It is valid after
// Done is closed.
func (p *Process) Err() error { return p.err }

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	p.kill()
	<-p.done
}
