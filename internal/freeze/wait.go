package freeze

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"

	"golang.org/x/sys/unix"
)

// newTracer returns a tracer of a process, to be closed.
func newTracer(pid int) (*tracer, error) {
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	t := &tracer{pid: pid, memory: memory, changes: make(chan os.Signal, 1)}
	signal.Notify(t.changes, unix.SIGCHLD)
	return t, nil
}

func (t *tracer) close() {
	signal.Stop(t.changes)
	_ = t.memory.Close()
}

// await waits until a thread has stopped.
//
// It does not wait in the kernel: that tells of the end of a first thread only
// when all others are gone, which threads that are traced are when they were
// waited for. A process that is killed would be waited for without end.
func (t *tracer) await(tid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(tid, &status, unix.WALL|unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for thread %d: %w", tid, err)
		case got == 0:
			t.reap()
			<-t.changes
		case !status.Stopped():
			return status, fmt.Errorf("thread %d ended: status %#x", tid, uint32(status))
		default:
			return status, nil
		}
	}
}

// awaitOthers waits until the first thread of a process that was killed is the
// last. Whoever has started the process waits for that.
func (t *tracer) awaitOthers() {
	for t.reap() > 0 {
		<-t.changes
	}
}

// reap lets threads go that have ended, but for the first, and returns how many
// others there are.
func (t *tracer) reap() (others int) {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.pid))
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil || tid == t.pid {
			continue
		}
		if !reapThread(tid) {
			others++
		}
	}
	return others
}

// reapThread lets a thread go that has ended, and reports whether it had. One that
// has stopped is left to who waits for that.
func reapThread(tid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, tid, &info, unix.WEXITED|unix.WALL|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != nil {
		// It is gone, or was never traced.
		return errors.Is(err, unix.ECHILD)
	}
	if !ended(info) {
		return false
	}
	_, _ = unix.Wait4(tid, nil, unix.WALL|unix.WNOHANG, nil)
	return true
}

// ended says whether a child that something is known of has ended.
func ended(info unix.Siginfo) bool {
	const exited, killed, dumped = 1, 2, 3
	return info.Signo != 0 && (info.Code == exited || info.Code == killed || info.Code == dumped)
}
