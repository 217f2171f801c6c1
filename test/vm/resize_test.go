package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/record"
)

// update changes the limits of a container: CPUs in thousandths, memory in MiB.
func (in *installation) update(name string, milliCPUs, memoryMiB int64) error {
	in.t.Helper()
	quota, period, limit := milliCPUs*100, uint64(100000), memoryMiB<<20
	return in.updateTo(name, specs.LinuxResources{
		CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}, Memory: &specs.LinuxMemory{Limit: &limit},
	})
}

// updateTo changes the resources of a container, as containerd does.
func (in *installation) updateTo(name string, r specs.LinuxResources) error {
	in.t.Helper()
	root, err := record.NewRoot(in.state)
	if err != nil {
		in.t.Fatal(err)
	}
	dir, err := root.Find(name)
	if err != nil {
		in.t.Fatal(err)
	}
	client, err := engine.Dial(dir)
	if err != nil {
		in.t.Fatal(err)
	}
	defer client.Close()
	data, err := json.Marshal(r)
	if err != nil {
		in.t.Fatal(err)
	}
	_, err = client.Task.Update(in.t.Context(), &task.UpdateTaskRequest{ID: dir.ID, Resources: &anypb.Any{Value: data}})
	return err
}

// guestSize is what a container sees of its machine.
func (in *installation) guestSize(name string) (cpus, memoryMiB int) {
	in.t.Helper()
	out := in.must("exec", name, "sh", "-c", "nproc; awk '/MemTotal/ { print int($2/1024) }' /proc/meminfo")
	if _, err := fmt.Sscan(out, &cpus, &memoryMiB); err != nil {
		in.t.Fatalf("%q: %v", out, err)
	}
	return cpus, memoryMiB
}

// sharedMiB is how much of the memory that a process shares is there.
func (p process) sharedMiB(t *testing.T) int {
	t.Helper()
	kib, err := strconv.Atoi(strings.Fields(p.status(t, "RssShmem"))[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// TestResize has machines grow and shrink with the limits of their container:
// booted ones and clones, with shares, whose daemon must see the new memory, and
// without.
func TestResize(t *testing.T) {
	for _, templates := range []string{"true", "false"} {
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprintf("templates %s, shares %v", templates, shared), func(t *testing.T) {
				in := install(t, "template.enabled="+templates, "vm.max_cpus=4", "vm.max_memory_mib=2048")
				args := []string{"run", "-d", "--name", "box"}
				if shared {
					args = append(args, "-v", in.mkdir("share")+":/share")
				}
				in.must(append(args, busybox(), "sleep", "1000")...)
				growAndShrink(t, in, shared)
				in.must("rm", "-f", "box")
			})
		}
	}
}

func growAndShrink(t *testing.T, in *installation, shared bool) {
	if cpus, memory := in.guestSize("box"); cpus != 1 || memory > 256 {
		t.Fatalf("it begins with %d CPUs and %d MiB", cpus, memory)
	}
	// 900 MiB, what the guest needs, and then to whole steps.
	if err := in.update("box", 2500, 900); err != nil {
		t.Fatal(err)
	}
	if cpus, memory := in.guestSize("box"); cpus != 3 || memory < 950 || memory > 1024 {
		t.Errorf("it has grown to %d CPUs and %d MiB, want 3 and 1024", cpus, memory)
	}
	if limits := in.must("exec", "box", "cat", "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/memory.max"); limits != fmt.Sprintf("250000 100000\n%d", 900<<20) {
		t.Errorf("the container's limits are %q", limits)
	}
	// A block of so many bytes is in memory as a whole.
	qemu := in.one("qemu")
	in.must("exec", "box", "dd", "if=/dev/zero", "of=/dev/null", "bs=600M", "count=1")
	if shared {
		in.must("exec", "box", "dd", "if=/dev/urandom", "of=/share/file", "bs=64M", "count=2")
		if info, err := os.Stat(filepath.Join(in.dir, "share", "file")); err != nil || info.Size() != 128<<20 {
			t.Errorf("a file in the share: %v, %v", info, err)
		}
	}
	checkRefused(t, in)
	if err := in.update("box", 500, 100); err != nil {
		t.Fatal(err)
	}
	if cpus, memory := in.guestSize("box"); cpus != 1 || memory > 256 {
		t.Errorf("it has shrunk to %d CPUs and %d MiB, want 1 and 256", cpus, memory)
	}
	if used := qemu.sharedMiB(t); used > 256 {
		t.Errorf("after it has shrunk %d MiB of the host are in use", used)
	}
}

// checkRefused has an update that no machine can meet change nothing.
func checkRefused(t *testing.T, in *installation) {
	t.Helper()
	if err := in.update("box", 5000, 900); err == nil || !strings.Contains(err.Error(), "at most 4 (vm.max_cpus)") {
		t.Errorf("5 CPUs give %v", err)
	}
	if err := in.update("box", 2500, 2000); err == nil || !strings.Contains(err.Error(), "at most 2048 (vm.max_memory_mib)") {
		t.Errorf("2000 MiB give %v", err)
	}
	if limits := in.must("exec", "box", "cat", "/sys/fs/cgroup/cpu.max"); limits != "250000 100000" {
		t.Errorf("after updates that were refused the limit is %q", limits)
	}
}

// TestUpdateEveryResource changes each resource that a container can have, and
// looks for it in the guest, or on the host where it is the host's.
func TestUpdateEveryResource(t *testing.T) {
	in := install(t)
	in.must("run", "-d", "--name", "box", busybox(), "sleep", "1000")
	err := in.updateTo("box", specs.LinuxResources{
		CPU:            &specs.LinuxCPU{Shares: new(uint64(2048)), Quota: new(int64(20000)), Period: new(uint64(50000)), Burst: new(uint64(10000)), Cpus: "0"},
		Memory:         &specs.LinuxMemory{Limit: new(int64(64 << 20)), Reservation: new(int64(32 << 20)), Swap: new(int64(96 << 20))},
		Pids:           &specs.LinuxPids{Limit: new(int64(77))},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB"}},
		Unified:        map[string]string{"memory.high": "50331648"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"cpu.max": "20000 50000", "cpu.max.burst": "10000", "cpu.weight": "79",
		"memory.max": "67108864", "memory.low": "33554432", "memory.high": "50331648", "pids.max": "77",
	} {
		if got := in.must("exec", "box", "cat", "/sys/fs/cgroup/"+file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	if len(in.cgroups()) > 0 {
		data, err := os.ReadFile(cgroupFile(in.one("qemu").pid, "cpuset", "cpuset.cpus", "cpuset.cpus"))
		if err != nil || strings.TrimSpace(string(data)) != "0" {
			t.Errorf("on the host the CPUs are %q, %v", data, err)
		}
	}
	err = in.updateTo("box", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(100))}})
	if err == nil || !strings.Contains(err.Error(), "linux.resources.blockIO") {
		t.Errorf("what cannot be honoured gives %v", err)
	}
	in.must("rm", "-f", "box")
}
