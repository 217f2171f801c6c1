package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dougong.dev/dougong/internal/hosttest"
)

// cgroupDirs are the directories of a cgroup, of version 1 and 2.
func cgroupDirs(path string) []string {
	unified, _ := filepath.Glob("/sys/fs/cgroup" + path)
	each, _ := filepath.Glob("/sys/fs/cgroup/*" + path)
	return append(unified, each...)
}

// setting reads one of a cgroup, by the file of version 1 or that of version 2.
func setting(path, v1, v2 string) string {
	for _, dir := range cgroupDirs(path) {
		for _, name := range []string{v1, v2} {
			if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				value, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
				return value
			}
		}
	}
	return ""
}

// testCgroup is one that no other test has.
func testCgroup(t *testing.T, d *daemon, name string) string {
	parent := fmt.Sprintf("/dougong-ctr-%d-%s", os.Getpid(), filepath.Base(d.bin))
	t.Cleanup(func() {
		if left := cgroupDirs(parent + "/*/cgroup.procs"); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
		for _, dir := range cgroupDirs(parent) {
			_ = os.Remove(dir)
		}
	})
	return parent + "/" + name
}

// TestCgroup has the sandbox's processes in the cgroup that the spec names,
// with the container's limits and what a machine takes beside.
func TestCgroup(t *testing.T) {
	hosttest.NeedCgroups(t)
	each(t, func(t *testing.T, d *daemon) {
		path := testCgroup(t, d, "limited")
		d.detach(t, "limited", []string{"--cgroup", path, "--cpu-quota", "50000", "--cpu-period", "100000", "--memory-limit", "100000000"}, "sleep", "1000")
		if len(cgroupDirs(path)) == 0 {
			t.Fatal("there is no cgroup, though cgroups can be changed here")
		}
		for _, kind := range []string{"containerd-shim-dougong-v2", "qemu-system", "virtiofsd", standIn} {
			for _, pid := range d.processes(kind) {
				if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); err != nil || !strings.Contains(string(data), path) {
					t.Errorf("%s is in\n%s, not in %s; %v", kind, data, path, err)
				}
			}
		}
		if quota := setting(path, "cpu.cfs_quota_us", "cpu.max"); quota != "75000" {
			t.Errorf("the quota is %s", quota)
		}
		if limit := setting(path, "memory.limit_in_bytes", "memory.max"); limit != fmt.Sprint((512+256)<<20) {
			t.Errorf("the limit of memory is %s", limit)
		}
	})
}

// TestCgroupOfKilled has containerd's clean-up remove what a sandbox process
// could not. The name is systemd's, which is a path where systemd does not run.
func TestCgroupOfKilled(t *testing.T) {
	hosttest.NeedCgroups(t)
	newest(t, func(t *testing.T, d *daemon) {
		if _, err := os.Stat("/run/systemd/system"); err == nil {
			t.Skip("systemd makes the cgroup here, and removes it")
		}
		d.detach(t, "killed", []string{"--cgroup", "dougongtest-a.slice:ctr:killed"}, "sleep", "1000")
		const path = "/dougongtest.slice/dougongtest-a.slice"
		t.Cleanup(func() {
			for _, dir := range append(cgroupDirs(path), cgroupDirs(filepath.Dir(path))...) {
				_ = os.Remove(dir)
			}
		})
		if len(cgroupDirs(path+"/ctr-killed.scope")) == 0 {
			t.Fatal("there is no cgroup, though cgroups can be changed here")
		}
		d.signal(t, "containerd-shim-dougong-v2", syscall.SIGKILL)
		eventually(t, "the task ends", func() bool { return d.status(t, "killed") != "RUNNING" })
		eventually(t, "the cgroup is gone", func() bool { return len(cgroupDirs(path+"/*/cgroup.procs")) == 0 })
	})
}
