package oci

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// guestOf translates baseSpec after change and fails the test on an error.
func guestOf(t *testing.T, change func(*specs.Spec)) *GuestPlan {
	t.Helper()
	s := baseSpec()
	change(s)
	before, _ := json.Marshal(s)
	plan, err := Guest(s, GuestOptions{ID: "c1", Namespaces: map[string]string{"/proc/9/ns/ipc": "/proc/2/ns/ipc"}})
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := json.Marshal(s); string(after) != string(before) {
		t.Errorf("the host's spec was changed:\n%s\n%s", before, after)
	}
	return plan
}

// guestRefuses asserts that baseSpec after change is not implemented, by name.
func guestRefuses(t *testing.T, name string, change func(*specs.Spec)) {
	t.Helper()
	s := baseSpec()
	change(s)
	_, err := Guest(s, GuestOptions{ID: "c1"})
	if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), name) {
		t.Errorf("want ErrNotImplemented naming %q, got %v", name, err)
	}
}

func TestGuestVersion(t *testing.T) {
	for _, v := range []string{"1.0.0", "1.0.2-dev", "1.3.0"} {
		if got := guestOf(t, func(s *specs.Spec) { s.Version = v }).Spec.Version; got != "1.0.2" {
			t.Errorf("%s became %s", v, got)
		}
	}
}

func TestGuestInvalid(t *testing.T) {
	for name, change := range map[string]func(*specs.Spec){
		"ociVersion":   func(s *specs.Spec) { s.Version = "2.0.0" },
		"linux":        func(s *specs.Spec) { s.Linux = nil },
		"no process":   func(s *specs.Spec) { s.Process = nil },
		"no command":   func(s *specs.Spec) { s.Process.Args = nil },
		"process.cwd":  func(s *specs.Spec) { s.Process.Cwd = "tmp" },
		"no source":    func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/a", Type: "bind"}} },
		"destination":  func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "a", Type: "tmpfs"}} },
		"twice":        func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces[1]) },
		`"pid" twice`:  func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces[0]) },
		"is not 1.x":   func(s *specs.Spec) { s.Version = "" },
		"not an absol": func(s *specs.Spec) { s.Process.Cwd = "" },
	} {
		s := baseSpec()
		change(s)
		_, err := Guest(s, GuestOptions{ID: "c1"})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, id := range []string{"", ".", "..", "a/b"} {
		if _, err := Guest(baseSpec(), GuestOptions{ID: id}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("id %q: got %v", id, err)
		}
	}
	if _, err := Guest(nil, GuestOptions{ID: "c"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("nil spec: got %v", err)
	}
}

func TestGuestRoot(t *testing.T) {
	if got := guestOf(t, func(*specs.Spec) {}).Spec.Root; got.Path != "rootfs" || got.Readonly {
		t.Errorf("got %+v", got)
	}
	if got := guestOf(t, func(s *specs.Spec) { s.Root = nil }).Spec.Root; got.Path != "rootfs" {
		t.Errorf("got %+v", got)
	}
}

func TestGuestUsername(t *testing.T) {
	plan := guestOf(t, func(s *specs.Spec) { s.Process.User.Username = "www-data:adm" })
	if got := plan.Spec.Process.User.Username; got != "www-data:adm" {
		t.Errorf("got %q", got)
	}
}

func TestGuestRlimits(t *testing.T) {
	limits := []specs.POSIXRlimit{
		{Type: "RLIMIT_NOFILE", Hard: 1 << 30, Soft: 1024},
		{Type: "RLIMIT_CORE", Hard: 1 << 40, Soft: 1 << 40},
	}
	want := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1 << 20, Soft: 1024}, limits[1]}
	plan := guestOf(t, func(s *specs.Spec) { s.Process.Rlimits = limits })
	if diff := cmp.Diff(want, plan.Spec.Process.Rlimits); diff != "" {
		t.Error(diff)
	}
}

func TestGuestCgroupsPath(t *testing.T) {
	plan := guestOf(t, func(s *specs.Spec) { s.Linux.CgroupsPath = "/kubepods/pod1/c" })
	if got := plan.Spec.Linux.CgroupsPath; got != "/dougong/c1" {
		t.Errorf("got %q", got)
	}
}

// TestOwnNetwork: a container that has joined others may have no part in their
// network.
func TestOwnNetwork(t *testing.T) {
	for own, want := range map[bool]bool{true: true, false: false} {
		plan, err := Guest(baseSpec(), GuestOptions{ID: "c1", OwnNetwork: own})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(plan.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace}); got != want {
			t.Errorf("with %v it has a network namespace: %v", own, got)
		}
	}
}

func TestGuestNamespaces(t *testing.T) {
	types := func(p *GuestPlan) (out []string) {
		for _, ns := range p.Spec.Linux.Namespaces {
			out = append(out, string(ns.Type)+ns.Path)
		}
		return out
	}
	plan := guestOf(t, func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces[:5], specs.LinuxNamespace{Type: "user"}, specs.LinuxNamespace{Type: "time"})
		s.Linux.Namespaces[1].Path = "/run/netns/cni-1"
	})
	if diff := cmp.Diff([]string{"pid", "ipc", "uts", "mount", "user", "cgroup"}, types(plan)); diff != "" {
		t.Error(diff)
	}
	for i, name := range []string{"pid", "network", "ipc", "uts", "mount"} {
		guestRefuses(t, `without "`+name+`"`, func(s *specs.Spec) { s.Linux.Namespaces = slices.Delete(s.Linux.Namespaces, i, i+1) })
	}
	for _, ns := range []specs.LinuxNamespace{{Type: "marvel"}, {Type: "time", Path: "/proc/9/ns/time"}} {
		guestRefuses(t, `linux.namespaces[6].type "`+string(ns.Type)+`"`, func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, ns) })
	}
}

func TestGuestNamespacePaths(t *testing.T) {
	plan := guestOf(t, func(s *specs.Spec) { s.Linux.Namespaces[2].Path = "/proc/9/ns/ipc" })
	if got := plan.Spec.Linux.Namespaces[1]; got.Path != "/proc/2/ns/ipc" {
		t.Errorf("got %+v", got)
	}
	guestRefuses(t, `linux.namespaces[0].path "/proc/1/ns/pid"`, func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/proc/1/ns/pid" })
	guestRefuses(t, `linux.namespaces[4].path`, func(s *specs.Spec) { s.Linux.Namespaces[4].Path = "/proc/9/ns/mnt" })
}

func TestGuestMountTypes(t *testing.T) {
	in := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "hidepid=2"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup2", Source: "cgroup", Options: []string{"ro"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"size=64m", "mode=1777"}},
		{Destination: "/dev/mqueue", Type: "mqueue"},
		{Destination: "/dev/pts", Type: "devpts", Options: []string{"newinstance", "gid=5"}},
	}
	plan := guestOf(t, func(s *specs.Spec) { s.Mounts = in })
	want := slices.Clone(in)
	want[2].Type = "cgroup"
	if diff := cmp.Diff(want, plan.Spec.Mounts); diff != "" {
		t.Error(diff)
	}
	if len(plan.Binds) != 0 {
		t.Errorf("binds: %+v", plan.Binds)
	}
	for _, kind := range []string{"nfs", "overlay", "ext4", "none", "", "ramfs"} {
		guestRefuses(t, `mounts[0].type "`+kind+`"`, func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/m", Type: kind}} })
	}
}

func TestGuestBinds(t *testing.T) {
	plan := guestOf(t, func(s *specs.Spec) {
		s.Mounts = []specs.Mount{
			{Destination: "/proc", Type: "proc"},
			{Destination: "/data", Source: "/srv/data", Options: []string{"rbind", "rprivate"}},
			{Destination: "/etc/hosts", Type: "bind", Source: "files:hosts", Options: []string{"rbind"}},
			{Destination: "/conf", Type: "none", Source: "conf", Options: []string{"bind", "rw", "ro"}},
			{Destination: InitPath, Type: "bind", Source: "/init", Options: []string{"bind", "ro"}},
			{Destination: "/b", Type: "bind", Source: "/init"},
			{Destination: "/rw", Type: "bind", Source: "/rw", Options: []string{"ro", "rw"}},
			{Destination: "/hidden", Type: "bind", Source: "/dev/null", Options: []string{"ro"}},
		}
	})
	want := []Bind{
		{Index: 1, Source: "/srv/data", Destination: "/data", Options: []string{"rbind", "rprivate"}},
		{Index: 3, Source: "conf", Destination: "/conf", Options: []string{"bind", "rw", "ro"}, ReadOnly: true},
		{Index: 5, Source: "/init", Destination: "/b", Options: []string{"bind"}},
		{Index: 6, Source: "/rw", Destination: "/rw", Options: []string{"ro", "rw", "bind"}},
	}
	if diff := cmp.Diff(want, plan.Binds); diff != "" {
		t.Error(diff)
	}
	for i, m := range plan.Spec.Mounts[1:] {
		if m.Type != "bind" {
			t.Errorf("mount %d: type %q", i+1, m.Type)
		}
	}
	if plan.Spec.Mounts[2].Source != GuestFile("c1", "hosts") || plan.Spec.Mounts[4].Source != "/init" {
		t.Errorf("sources in the guest were changed: %+v", plan.Spec.Mounts)
	}
}

func TestGuestMountOptions(t *testing.T) {
	for _, o := range []string{"shared", "rshared", "context=x", "lowerdir=/a", "size=1m"} {
		guestRefuses(t, `mounts[0].options "`+o+`"`, func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/m", Type: "bind", Source: "/m", Options: []string{"rbind", o}}}
		})
	}
	guestOf(t, func(s *specs.Spec) {
		s.Mounts = []specs.Mount{{Destination: "/m", Type: "tmpfs", Options: append(slices.Clone(mountFlags[3:]), "size=1m", "tmpcopyup", "shared")}}
	})
}

func TestGuestSysctls(t *testing.T) {
	plan := guestOf(t, func(s *specs.Spec) {
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "net/core/somaxconn": "9", "kernel.shmmax": "5", "fs.mqueue.msg_max": "7"}
	})
	if diff := cmp.Diff(map[string]string{"net.ipv4.ip_forward": "1", "net.core.somaxconn": "9"}, plan.Sysctls); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"kernel.shmmax": "5", "fs.mqueue.msg_max": "7"}, plan.Spec.Linux.Sysctl); diff != "" {
		t.Error(diff)
	}
	guestRefuses(t, `linux.sysctl["vm.swappiness"]`, func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"vm.swappiness": "1"} })
	guestRefuses(t, `linux.sysctl["kernel.core_pattern"]`, func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.core_pattern": "|x"} })
}

func TestGuestDevices(t *testing.T) {
	plan := guestOf(t, func(s *specs.Spec) {
		s.Linux.Devices = []specs.LinuxDevice{
			{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, UID: new(uint32(0))},
			{Path: "/dev/tty", Type: "u", Major: 5},
			{Path: "/dev/data", Type: "b", Major: 7, Minor: 3},
			{Path: "/dev/again", Type: "b", Major: 7, Minor: 3},
			{Path: "/dev/rw", Type: "b", Major: 7, Minor: 4},
			{Path: "/dev/line", Type: "p"},
		}
		s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
			{Access: "rwm"},
			{Allow: true, Type: "b", Access: "m"},
			{Allow: true, Type: "b", Major: new(int64(7)), Minor: new(int64(3)), Access: "rm"},
			{Allow: true, Type: "b", Major: new(int64(7)), Minor: new(int64(4)), Access: "rwm"},
		}}
	})
	if len(plan.Spec.Linux.Devices) != 6 {
		t.Errorf("got %+v", plan.Spec.Linux.Devices)
	}
	want := []BlockDevice{{Major: 7, Minor: 3, ReadOnly: true}, {Major: 7, Minor: 4}}
	if diff := cmp.Diff(want, plan.Devices); diff != "" {
		t.Errorf("block devices: %s", diff)
	}
	for _, d := range []specs.LinuxDevice{
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 1},
		{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229},
	} {
		guestRefuses(t, `linux.devices[0] "`+d.Path+`"`, func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{d} })
	}
}

// Numbers of the host's block devices are those of others in the guest.
func TestGuestDeviceRules(t *testing.T) {
	for _, rule := range []specs.LinuxDeviceCgroup{
		{Allow: true, Type: "b", Major: new(int64(254)), Minor: new(int64(0)), Access: "r"},
		{Allow: true, Type: "b", Major: new(int64(254)), Access: "rwm"},
		{Allow: true, Type: "b"},
	} {
		guestRefuses(t, "linux.resources.devices[0]", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{rule}}
		})
	}
	all := guestOf(t, func(s *specs.Spec) {
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "b", Major: 7, Minor: 1}}
		s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}}
	})
	if len(all.Devices) != 1 || all.Devices[0].ReadOnly {
		t.Errorf("got %+v", all.Devices)
	}
}

func TestGuestCPUBurst(t *testing.T) {
	plan := guestOf(t, func(s *specs.Spec) {
		s.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Burst: new(uint64(500))}}
	})
	r := plan.Spec.Linux.Resources
	if r.CPU.Burst != nil || r.Unified["cpu.max.burst"] != "500" {
		t.Errorf("got %+v %+v", r.CPU, r.Unified)
	}
}

func TestGuestDropsHostCPUs(t *testing.T) {
	plan := guestOf(t, func(s *specs.Spec) {
		s.Linux.Resources = &specs.LinuxResources{
			CPU:     &specs.LinuxCPU{Cpus: "40-47", Mems: "1", Quota: new(int64(1000))},
			Unified: map[string]string{"cpuset.cpus": "40-47", "cpuset.mems": "1", "memory.high": "9"},
		}
	})
	want := &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(1000))}, Unified: map[string]string{"memory.high": "9"}}
	if diff := cmp.Diff(want, plan.Spec.Linux.Resources); diff != "" {
		t.Error(diff)
	}
}

func TestGuestHugepageLimits(t *testing.T) {
	plan := guestOf(t, func(s *specs.Spec) {
		s.Linux.Resources = &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "1GB"}, {Pagesize: "2MB", Limit: 4 << 20}}}
	})
	if got := plan.Spec.Linux.Resources.HugepageLimits; len(got) != 1 || got[0].Pagesize != "2MB" {
		t.Errorf("got %+v", got)
	}
}

func TestGuestSeccompNotify(t *testing.T) {
	guestRefuses(t, "linux.seccomp.defaultAction", func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActNotify} })
	profile := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"a"}, Action: specs.ActAllow}}}
	plan := guestOf(t, func(s *specs.Spec) { s.Linux.Seccomp = profile })
	if diff := cmp.Diff(profile, plan.Spec.Linux.Seccomp); diff != "" {
		t.Error(diff)
	}
	guestRefuses(t, "linux.seccomp.syscalls[0].action", func(s *specs.Spec) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{Syscalls: []specs.LinuxSyscall{{Action: specs.ActNotify}}}
	})
}

func TestGuestHooks(t *testing.T) {
	hook := func(p string) []specs.Hook { return []specs.Hook{{Path: p, Timeout: new(3)}} }
	all := &specs.Hooks{
		Prestart:      hook("/1"), //nolint:staticcheck // containerd and Docker still send it.
		CreateRuntime: hook("/2"), CreateContainer: hook("/3"), StartContainer: hook("/4"), Poststart: hook("/5"), Poststop: hook("/6"),
	}
	plan := guestOf(t, func(s *specs.Spec) { s.Hooks = all })
	host := *all
	host.StartContainer = nil
	if diff := cmp.Diff(&host, plan.Hooks); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&specs.Hooks{StartContainer: hook("/4")}, plan.Spec.Hooks); diff != "" {
		t.Error(diff)
	}
	plan = guestOf(t, func(s *specs.Spec) { s.Hooks = &specs.Hooks{} })
	if plan.Hooks != nil || plan.Spec.Hooks != nil {
		t.Errorf("hooks out of nothing: %+v %+v", plan.Hooks, plan.Spec.Hooks)
	}
}

func TestGuestAnnotations(t *testing.T) {
	plan := guestOf(t, func(s *specs.Spec) {
		s.Annotations = map[string]string{
			"io.kubernetes.cri.container-name": "web", "dev.dougong.memory": "1g", "run.oci.hooks.stdout": "/log",
			"org.systemd.property.CPUWeight": "9", "run.oci.seccomp_fail_unknown_syscall": "1",
		}
	})
	want := map[string]string{"io.kubernetes.cri.container-name": "web", "run.oci.seccomp_fail_unknown_syscall": "1"}
	if diff := cmp.Diff(want, plan.Spec.Annotations); diff != "" {
		t.Error(diff)
	}
	guestRefuses(t, `annotations["run.oci.handler"]`, func(s *specs.Spec) { s.Annotations = map[string]string{"run.oci.handler": "krun"} })
}

func TestGuestProcess(t *testing.T) {
	in := &specs.Process{
		Args: []string{"id"}, Cwd: "/", Terminal: true, User: specs.User{UID: 5, AdditionalGids: []uint32{1, 2}, Umask: new(uint32(0o77))},
		Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1 << 30, Soft: 1 << 30}}, Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}},
	}
	got, err := GuestProcess(in)
	if err != nil {
		t.Fatal(err)
	}
	want := *in
	want.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1 << 20, Soft: 1 << 20}}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
	in.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO}
	if _, err := GuestProcess(in); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "process.scheduler") {
		t.Errorf("got %v", err)
	}
	if _, err := GuestProcess(&specs.Process{Cwd: "/"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
	if _, err := GuestProcess(nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
}

func FuzzGuest(f *testing.F) {
	seed, _ := json.Marshal(baseSpec())
	f.Add(seed)
	f.Add([]byte(`{"ociVersion":"1.0.0","process":{"args":["a"],"cwd":"/","rlimits":[{}]},"mounts":[{"type":"bind"}],"hooks":{},"linux":{"namespaces":[null]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s specs.Spec
		if json.Unmarshal(data, &s) != nil {
			return
		}
		plan, err := Guest(&s, GuestOptions{ID: "c"})
		if err != nil {
			return
		}
		for _, b := range plan.Binds {
			if m := plan.Spec.Mounts[b.Index]; m.Source != b.Source || m.Destination != b.Destination {
				t.Errorf("bind %+v does not match mount %+v", b, m)
			}
		}
		if plan.Spec.Version != GuestVersion {
			t.Errorf("version %s", plan.Spec.Version)
		}
	})
}
