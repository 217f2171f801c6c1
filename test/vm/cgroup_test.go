package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"dougong.dev/dougong/internal/hosttest"
)

// cgroup is below which an installation has the cgroups of its sandboxes.
func (in *installation) cgroup() string {
	return fmt.Sprintf("/dougong-vm-%d-%s", os.Getpid(), filepath.Base(in.dir))
}

// parents are the directories of that cgroup, of version 1 and 2.
func (in *installation) parents() []string {
	var found []string
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		dirs, _ := filepath.Glob(filepath.Join(root, in.cgroup()))
		found = append(found, dirs...)
	}
	return found
}

// cgroups lists those of sandboxes.
func (in *installation) cgroups() []string {
	var found []string
	for _, parent := range in.parents() {
		entries, _ := os.ReadDir(parent)
		for _, e := range entries {
			if e.IsDir() {
				found = append(found, "cgroup "+filepath.Join(parent, e.Name()))
			}
		}
	}
	return found
}

// cgroupFile is where the host's limits of a process are to be found, by the file
// of version 1 or that of version 2.
func cgroupFile(pid int, controller, v1, v2 string) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	var unified string
	for line := range strings.Lines(strings.TrimSpace(string(data))) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case fields[1] == controller:
			return filepath.Join("/sys/fs/cgroup", controller, fields[2], v1)
		case fields[0] == "0":
			unified = fields[2]
		}
	}
	return filepath.Join("/sys/fs/cgroup", unified, v2)
}

// TestHostCgroup looks where the processes of a sandbox are on the host, and
// what they may take there.
func TestHostCgroup(t *testing.T) {
	hosttest.NeedCgroups(t)
	in := install(t, "cgroup.overhead_millicpus=150")
	id := strings.TrimSpace(in.must("run", "-d", "--cpus", "0.5", "-v", in.mkdir("share")+":/share", busybox(), "sleep", "1000"))
	if len(in.cgroups()) == 0 {
		t.Fatal("there is no cgroup, though cgroups can be changed here")
	}
	want := in.cgroup() + "/" + id
	for _, kind := range []string{"shim", "qemu", "virtiofsd"} {
		for _, p := range in.find(kind) {
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.pid))
			if err != nil || !strings.Contains(string(data), want) {
				t.Errorf("%s is in\n%s, not in %s; %v", kind, data, want, err)
			}
		}
	}
	quota, err := os.ReadFile(cgroupFile(in.one("qemu").pid, "cpu", "cpu.cfs_quota_us", "cpu.max"))
	if q, _, _ := strings.Cut(strings.TrimSpace(string(quota)), " "); err != nil || q != "65000" {
		t.Errorf("the quota on the host is %s, %v; want that of the container and the overhead", quota, err)
	}
	memory, err := os.ReadFile(cgroupFile(in.one("qemu").pid, "memory", "memory.limit_in_bytes", "memory.max"))
	if m := strings.TrimSpace(string(memory)); err != nil || m != fmt.Sprint((256+256)<<20) {
		t.Errorf("the limit of memory on the host is %s, %v; want that of the machine and the overhead", m, err)
	}
	in.must("rm", "-f", id)
	if left := in.cgroups(); len(left) > 0 {
		t.Errorf("after the end there is %q", left)
	}
}

// TestHostCgroupAfterKill has the next command remove what a sandbox process
// could not.
func TestHostCgroupAfterKill(t *testing.T) {
	hosttest.NeedCgroups(t)
	in := install(t)
	in.must("run", "-d", "--name", "box", busybox(), "sleep", "1000")
	pid := in.one("shim").pid
	if len(in.cgroups()) == 0 {
		t.Fatal("there is no cgroup, though cgroups can be changed here")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of process "+strconv.Itoa(pid), func() bool { return len(processesOf(in.dir)) == 0 })
	// A process that ends holds its lock for a moment after it was last seen.
	eventually(t, "the next command removes the cgroup", func() bool {
		in.must("ps", "-a")
		return len(in.cgroups()) == 0
	})
	in.must("rm", "box")
}

// TestCgroupVersion2 runs the tests of package cgroup in a VM, which has
// version 2 whatever the host has.
func TestCgroupVersion2(t *testing.T) {
	in := install(t)
	program := in.path("cgroup.test")
	cmd := exec.Command("go", "test", "-tags", "no_grpc", "-c", "-o", program, "./internal/cgroup")
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	out := in.must("run", "--rm", "--privileged", "-v", program+":/cgroup.test:ro", busybox(), "/cgroup.test", "-test.v")
	for _, name := range []string{"TestJoinAndLeave", "TestLeaveTakesAllAlong", "TestSet", "TestSetRefused", "TestClear"} {
		if !strings.Contains(out, "--- PASS: "+name) {
			t.Errorf("%s does not pass:\n%s", name, out)
		}
	}
}
