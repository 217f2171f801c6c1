package container

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// startReaper returns a reaper that reaps the orphans of this process.
func startReaper(t *testing.T) *reaper {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	r := newReaper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); <-r.stopped })
	go r.run(ctx)
	return r
}

// orphan starts a process that falls to this one, and returns its pid. It
// lives long enough for its parent not to see its end.
func orphan(t *testing.T, script string) int {
	t.Helper()
	out, err := exec.Command("sh", "-c", "(sleep 0.03; "+script+") >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// Statuses that somebody waits for are never taken, in whatever order
// children die among orphans.
func TestReaperKeepsStatuses(t *testing.T) {
	r := startReaper(t)
	for range 20 {
		release := r.hold()
		orphan(t, "exit 1")
		pid := orphan(t, "exit 42")
		orphan(t, "exit 2")
		statuses := make(chan unix.WaitStatus, 1)
		r.watch(pid, func() {}, func(s unix.WaitStatus) { statuses <- s })
		release()
		if s := <-statuses; s.ExitStatus() != 42 {
			t.Fatalf("status %d, want 42", s.ExitStatus())
		}
	}
}

func TestReaperReapsOrphans(t *testing.T) {
	r := startReaper(t)
	release := r.hold()
	pid := orphan(t, "exit 0")
	release()
	deadline := time.Now().Add(10 * time.Second)
	for !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		if time.Now().After(deadline) {
			t.Fatalf("orphan %d is still there", pid)
		}
		r.poke()
		time.Sleep(time.Millisecond)
	}
}

func TestSignalled(t *testing.T) {
	r := startReaper(t)
	release := r.hold()
	pid := orphan(t, "exec sleep 100")
	statuses := make(chan unix.WaitStatus, 1)
	r.watch(pid, func() {}, func(s unix.WaitStatus) { statuses <- s })
	_ = unix.Kill(pid, unix.SIGKILL)
	release()
	if got := exitStatus(<-statuses); got != 137 {
		t.Errorf("status %d, want 137", got)
	}
}

func TestCgroupMetrics(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"cpu.stat":       "usage_usec 10\nuser_usec 4\nsystem_usec 6\n",
		"memory.stat":    "anon 100\nfile 200\nodd\n",
		"memory.current": "300\n", "memory.max": "max\n", "pids.current": "3\n",
		"io.stat":       "254:0 rbytes=10 wbytes=20 rios=1 wios=2\n254:16\nnonsense x=1\n",
		"memory.events": "low 0\noom_kill 2\n",
		"cgroup.procs":  "5\n6\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := cgroup(dir).metrics()
	got := []uint64{
		m.CPU.UsageUsec, m.Memory.Anon, m.Memory.Usage, m.Memory.UsageLimit, m.Pids.Current, m.MemoryEvents.OomKill,
		uint64(len(m.Io.Usage)), m.Io.Usage[0].Major, m.Io.Usage[0].Wbytes,
	}
	if diff := cmp.Diff([]uint64{10, 100, 300, 1<<64 - 1, 3, 2, 1, 254, 20}, got); diff != "" {
		t.Error(diff)
	}
	if pids, err := cgroup(dir).pids(); err != nil || len(pids) != 2 {
		t.Errorf("%v, %v", pids, err)
	}
	if m := cgroup(t.TempDir()).metrics(); m.Memory.Usage != 0 {
		t.Errorf("figures out of nothing: %v", m)
	}
}
