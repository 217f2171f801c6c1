package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"

	"dougong.dev/dougong/internal/hosttest"
)

// TestMain makes room for the tests where they run in a container of cgroup
// version 2: a cgroup that has processes cannot share its controllers out.
func TestMain(m *testing.M) {
	const root = "/sys/fs/cgroup"
	if cgroups.IsCgroup2UnifiedMode() {
		if _, err := os.Stat(filepath.Join(root, "cgroup.type")); err == nil {
			if err := settle(root); err != nil {
				fmt.Fprintln(os.Stderr, "make room for cgroups:", err)
			}
		}
	}
	os.Exit(m.Run())
}

// settle moves all processes of a cgroup into one below it.
func settle(root string) error {
	leaf := filepath.Join(root, "tests")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return err
	}
	pids, err := cgroups.GetPids(root)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		err = errors.Join(err, cgroups.WriteCgroupProc(leaf, pid))
	}
	return err
}

// place is a cgroup of the test's own. Tests need root and cgroups that can be
// changed.
func place(t *testing.T) Place {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may make cgroups")
	}
	hosttest.NeedCgroups(t)
	p := Place{Path: fmt.Sprintf("/dougong-test-%d/%s", os.Getpid(), t.Name())}
	t.Cleanup(func() {
		g, err := newGroup(p, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range g.manager.GetPaths() {
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", dir, err)
			}
			_ = os.Remove(filepath.Dir(dir))
		}
	})
	return p
}

// enter joins a cgroup and leaves it with the test.
func enter(t *testing.T, p Place) *Group {
	t.Helper()
	dir := t.TempDir()
	g, err := Join(p, dir)
	if err != nil {
		t.Fatal(err)
	}
	if g == nil {
		t.Fatal("no cgroup was made, though cgroups can be changed here")
	}
	t.Cleanup(func() {
		if err := g.Leave(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, traceFile)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the trace is still there: %v", err)
		}
	})
	return g
}

func own(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestJoinAndLeave(t *testing.T) {
	before := own(t)
	t.Cleanup(func() {
		if after := own(t); after != before {
			t.Errorf("after Leave this process is in\n%s, before it was in\n%s", after, before)
		}
	})
	p := place(t)
	g := enter(t, p)
	if !strings.Contains(own(t), p.Path) {
		t.Fatalf("this process is in\n%s, not in %s", own(t), p.Path)
	}
	// A child is born there.
	out, err := exec.Command("cat", "/proc/self/cgroup").Output()
	if err != nil || !strings.Contains(string(out), p.Path) {
		t.Errorf("a child is in\n%s, %v", out, err)
	}
	g.Outside(func() {
		if own(t) != before {
			t.Errorf("outside this process is in\n%s, not in\n%s", own(t), before)
		}
	})
	if !strings.Contains(own(t), p.Path) {
		t.Errorf("after it was outside this process is in\n%s", own(t))
	}
}

// TestLeaveTakesAllAlong has a process outlive the cgroup, which the kernel
// would not remove with one in it.
func TestLeaveTakesAllAlong(t *testing.T) {
	cmd := exec.Command("sleep", "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	g := enter(t, place(t))
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
}

// TestForsake has this process in a cgroup of a hierarchy that no group joins.
func TestForsake(t *testing.T) {
	const devices = "/sys/fs/cgroup/devices"
	if !cgroups.PathExists(filepath.Join(devices, "cgroup.procs")) {
		t.Skip("there is no such hierarchy in version 2")
	}
	p := place(t)
	starter := filepath.Join(devices, p.Path+"-starter")
	if err := errors.Join(os.MkdirAll(starter, 0o755), cgroups.WriteCgroupProc(starter, os.Getpid())); err != nil {
		t.Fatal(err)
	}
	g := enter(t, p)
	if !strings.Contains(own(t), ":devices:"+p.Path+"-starter\n") {
		t.Fatalf("this process is in\n%s", own(t))
	}
	if err := g.Forsake(); err != nil {
		t.Fatal(err)
	}
	if in := own(t); strings.Contains(in, ":devices:"+p.Path) || !strings.Contains(in, ":pids:"+p.Path+"\n") {
		t.Errorf("this process is in\n%s", in)
	}
	if err := os.Remove(starter); err != nil {
		t.Error(err)
	}
	_ = os.Remove(filepath.Dir(starter))
	if err := (*Group)(nil).Forsake(); err != nil {
		t.Error(err)
	}
}

// TestBring has a process join this one that was started somewhere else.
func TestBring(t *testing.T) {
	cmd := exec.Command("sleep", "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	enter(t, place(t))
	of := fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid)
	if there, err := os.ReadFile(of); err != nil || string(there) == own(t) {
		t.Fatalf("before: %s, %v", there, err)
	}
	if err := Bring(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if there, err := os.ReadFile(of); err != nil || string(there) != own(t) {
		t.Errorf("it is in\n%s, %v, and this process in\n%s", there, err, own(t))
	}
	if err := Bring(1 << 30); err == nil {
		t.Error("a process that is not there was moved")
	}
}

// value reads one setting of the cgroup, under version 1's or version 2's name.
func value(t *testing.T, g *Group, controller, v1, v2 string) string {
	t.Helper()
	name := v1
	if cgroups.IsCgroup2UnifiedMode() {
		name = v2
	}
	data, err := os.ReadFile(filepath.Join(g.manager.Path(controller), name))
	if errors.Is(err, fs.ErrNotExist) {
		hosttest.NeedController(t, controller)
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestSet(t *testing.T) {
	g := enter(t, place(t))
	if err := g.Set(Limits{MilliCPUs: 750, MemoryBytes: 1 << 30, Shares: 512, CPUs: "0"}); err != nil {
		t.Fatal(err)
	}
	unlimited := "9223372036854771712"
	if cgroups.IsCgroup2UnifiedMode() {
		unlimited = "max"
	}
	quota := value(t, g, "cpu", "cpu.cfs_quota_us", "cpu.max")
	if q, _, _ := strings.Cut(quota, " "); q != "75000" {
		t.Errorf("the quota is %s", quota)
	}
	if m := value(t, g, "memory", "memory.limit_in_bytes", "memory.max"); m != "1073741824" {
		t.Errorf("the limit of memory is %s", m)
	}
	if w := value(t, g, "cpu", "cpu.shares", "cpu.weight"); w != "512" && w != "59" {
		t.Errorf("the weight is %s", w)
	}
	if c := value(t, g, "cpuset", "cpuset.cpus", "cpuset.cpus"); c != "0" {
		t.Errorf("the CPUs are %s", c)
	}
	if err := g.Set(Limits{}); err != nil {
		t.Fatal(err)
	}
	if m := value(t, g, "memory", "memory.limit_in_bytes", "memory.max"); m != unlimited {
		t.Errorf("without a limit it is %s", m)
	}
	all, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		t.Fatal(err)
	}
	if c := value(t, g, "cpuset", "cpuset.cpus", "cpuset.cpus"); c != strings.TrimSpace(string(all)) {
		t.Errorf("without a list the CPUs are %s, want %s", c, all)
	}
}

func TestSetRefused(t *testing.T) {
	g := enter(t, place(t))
	if err := g.Set(Limits{CPUs: "9999"}); err == nil || !strings.Contains(err.Error(), g.place.Path) {
		t.Errorf("a CPU that is not there gives %v", err)
	}
}

// TestClear does what is done after a sandbox process that was killed.
func TestClear(t *testing.T) {
	p, dir := place(t), t.TempDir()
	g, err := newGroup(p, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(writeTrace(dir, g.manager.GetPaths()), g.manager.Apply(-1)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Clear(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestClearOfADamagedTrace(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, traceFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Clear(dir); err == nil || !strings.Contains(err.Error(), traceFile) {
		t.Errorf("got %v", err)
	}
}

func TestNoGroup(t *testing.T) {
	g, err := Join(Place{}, t.TempDir())
	if g != nil || err != nil {
		t.Fatalf("got %v, %v", g, err)
	}
	ran := false
	g.Outside(func() { ran = true })
	if err := errors.Join(g.Set(Limits{MilliCPUs: 1}), g.Add(1), g.Leave()); err != nil || !ran {
		t.Errorf("got %v, ran: %v", err, ran)
	}
}

// TestUsage counts what processes in the cgroup take.
func TestUsage(t *testing.T) {
	if _, ok, err := (*Group)(nil).Usage(); ok || err != nil {
		t.Errorf("no cgroup has taken something: %v, %v", ok, err)
	}
	g := enter(t, place(t))
	before, ok, err := g.Usage()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	// It is born in the cgroup, and busy.
	if out, err := exec.Command("sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; head -c 4000000 /dev/zero >"+filepath.Join(t.TempDir(), "file")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	after, _, err := g.Usage()
	if err != nil || after.CPUNanoseconds < before.CPUNanoseconds+1e6 || after.MemoryBytes == 0 || after.InactiveFileBytes > after.MemoryBytes {
		t.Errorf("%+v, before %+v, %v", after, before, err)
	}
}
