package container

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// reaper waits for processes whose parent is this process: those of
// containers by pid, and orphans that fall to the subreaper without anybody
// asking for them. It never takes a status that somebody waits for.
type reaper struct {
	// gate is held for reading while a command runs or a process is about to
	// be registered: until then its pid looks like an orphan's.
	gate sync.RWMutex
	kick chan struct{}
	// stopped is closed when run has ended.
	stopped chan struct{}

	mu    sync.Mutex
	known map[int]chan struct{}
}

func newReaper() *reaper {
	return &reaper{kick: make(chan struct{}, 1), stopped: make(chan struct{}), known: make(map[int]chan struct{})}
}

// hold keeps the reaper from orphans until the release is called.
func (r *reaper) hold() (release func()) {
	r.gate.RLock()
	return func() {
		r.gate.RUnlock()
		r.poke()
	}
}

func (r *reaper) poke() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// watch registers pid and calls exited with its wait status, in a goroutine
// of its own. dying is called before the pid is free for another process. It
// must be called with the reaper held.
func (r *reaper) watch(pid int, dying func(), exited func(unix.WaitStatus)) {
	reaped := make(chan struct{})
	r.mu.Lock()
	r.known[pid] = reaped
	r.mu.Unlock()
	go func() {
		status := waitPid(pid, dying)
		r.mu.Lock()
		delete(r.known, pid)
		r.mu.Unlock()
		close(reaped)
		exited(status)
	}()
}

// waitPid waits for one process. A process that is not there, which only a
// runtime that lied about a pid brings about, counts as killed.
func waitPid(pid int, dying func()) unix.WaitStatus {
	var status unix.WaitStatus
	err := again(func() error {
		return unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	})
	dying()
	if err == nil {
		err = again(func() error { _, err := unix.Wait4(pid, &status, 0, nil); return err })
	}
	if err != nil {
		slog.Error("process cannot be waited for", "pid", pid, "error", err)
		return unix.WaitStatus(unix.SIGKILL)
	}
	return status
}

func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// run reaps orphans until ctx ends.
func (r *reaper) run(ctx context.Context) {
	defer close(r.stopped)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	defer signal.Stop(children)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-children:
		case <-r.kick:
		}
		r.sweep()
	}
}

// sweep reaps the orphans that are dead now, unless a command is running: its
// release brings the next sweep.
func (r *reaper) sweep() {
	for r.gate.TryLock() {
		reaped, wait := r.one()
		r.gate.Unlock()
		if wait != nil {
			<-wait
			continue
		}
		if !reaped {
			return
		}
	}
}

// one reaps one orphan. The kernel shows the dead in order, so one that
// somebody waits for stands before the others until it is taken.
func (r *reaper) one() (reaped bool, wait <-chan struct{}) {
	var info unix.Siginfo
	err := again(func() error {
		return unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	})
	pid := siginfoPid(&info)
	if err != nil || pid == 0 {
		return false, nil
	}
	r.mu.Lock()
	known := r.known[pid]
	r.mu.Unlock()
	if known != nil {
		return false, known
	}
	_, err = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return err == nil, nil
}
