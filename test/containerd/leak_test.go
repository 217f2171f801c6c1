package containerd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// grace is how long the kernel may take over what is gone.
const grace = 10 * time.Second

func shimSockets() []string {
	found, _ := filepath.Glob("/run/containerd/s/*")
	return found
}

// checkLeaks asserts that nothing of any container is left.
func (d *daemon) checkLeaks(t *testing.T) {
	t.Helper()
	d.checkLeaksWithin(t, grace)
}

func (d *daemon) checkLeaksWithin(t *testing.T, limit time.Duration) {
	t.Helper()
	var left []string
	for begin := time.Now(); time.Since(begin) < limit; <-time.After(50 * time.Millisecond) {
		if left = d.leftovers(); len(left) == 0 {
			return
		}
	}
	t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
}

func (d *daemon) leftovers() []string {
	var left []string
	for _, kind := range []string{"containerd-shim-dougong-v2", "qemu-system", "virtiofsd", standIn} {
		for _, pid := range d.processes(kind) {
			left = append(left, fmt.Sprintf("process %d: %s", pid, kind))
		}
	}
	if n := len(shimSockets()) - d.sockets; n > 0 {
		left = append(left, fmt.Sprintf("%d sockets", n))
	}
	bundles, _ := filepath.Glob(filepath.Join(d.dir, "state", "io.containerd.runtime.v2.task", "*", "*"))
	left = append(left, bundles...)
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, d.dir) {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	return left
}

// processes lists those of a kind that belong to this daemon: shims name its
// socket, and everything else is below a shim.
func (d *daemon) processes(kind string) []int {
	var pids []int
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range entries {
		pid, _ := strconv.Atoi(filepath.Base(proc))
		if (bytes.Contains(cmdline(pid), []byte(kind)) || comm(pid) == kind) && d.owns(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (d *daemon) owns(pid int) bool {
	for pid > 1 {
		if bytes.Contains(cmdline(pid), []byte(d.socket()+"\x00")) {
			return true
		}
		pid = parent(pid)
	}
	return false
}

func cmdline(pid int) []byte {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return data
}

// standIn is the name of processes that stand for those of a guest.
const standIn = "dougong-contain"

func comm(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(data))
}

func parent(pid int) int {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := bytes.Cut(data, []byte(") "))
	fields := bytes.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(string(fields[1]))
	return n
}

// signal sends a signal to the processes of a kind, of which there must be one.
func (d *daemon) signal(t *testing.T, kind string, sig syscall.Signal) {
	t.Helper()
	pids := d.processes(kind)
	if len(pids) == 0 {
		t.Fatalf("there is no %s", kind)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig)
	}
}
