package containerd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// object is a part of an OCI spec as JSON.
type object = map[string]any

// rootfs makes a directory with a busybox for the time of a test.
func rootfs(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"bin", "proc", "dev", "sys", "tmp", "run", "etc"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox := filepath.Join(root, "bin/busybox")
	if err := copyFile(busybox, busyboxPath); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "cat", "id", "grep", "cut", "ls", "touch", "sleep", "sysctl", "echo", "mount", "chroot", "readlink", "hostname", "tr"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// spec is one that every runtime takes, with a shell for a command.
func spec(root, script string) object {
	return object{
		"ociVersion": "1.0.2",
		"root":       object{"path": root},
		"process": object{
			"args": []string{"sh", "-c", script}, "cwd": "/", "env": []string{"PATH=/bin"}, "user": object{"uid": 0, "gid": 0},
		},
		"mounts": []object{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"mode=755"}},
		},
		"linux": object{"namespaces": []object{{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}}},
	}
}

// runSpec runs a container of a spec to its end.
func (d *daemon) runSpec(t *testing.T, id string, s object) result {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "spec.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.remove(id) })
	// The runtime's configuration comes by the environment: ctr takes the options
	// of a container with a user namespace for runc's.
	return d.ctr(t, "run", "--runtime", runtimeName, "--rm", "--config", path, id)
}

// Everything that a spec says of the process and its surroundings, seen from
// inside.
func TestSpecFields(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		s := spec(rootfs(t), `id -u; id -g; id -G; umask
grep -E '^(CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr '\t' ' '
ulimit -n; ulimit -Hn
cat /proc/self/oom_score_adj /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_default_ttl
hostname; pwd; echo $A
cat /proc/version_masked 2>/dev/null; cat /proc/cpuinfo | grep -c . ; ls /proc/acpi 2>/dev/null
touch /proc/sys/kernel/hostname 2>/dev/null && echo writable
ls -l /dev/full | cut -c 1`)
		process := s["process"].(object)
		process["user"] = object{"uid": 1000, "gid": 1001, "additionalGids": []int{5, 1005}, "umask": 0o27}
		process["env"], process["cwd"] = []string{"PATH=/bin", "A=b"}, "/tmp"
		process["capabilities"] = object{"bounding": []string{"CAP_KILL", "CAP_NET_BIND_SERVICE"}, "permitted": []string{"CAP_KILL"}, "effective": []string{"CAP_KILL"}, "inheritable": []string{"CAP_KILL"}, "ambient": []string{"CAP_KILL"}}
		process["rlimits"] = []object{{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}}
		process["noNewPrivileges"], process["oomScoreAdj"] = true, 321
		s["hostname"] = "inside"
		linux := s["linux"].(object)
		linux["sysctl"] = object{"kernel.msgmax": "9001", "net.ipv4.ip_default_ttl": "77"}
		linux["maskedPaths"], linux["readonlyPaths"] = []string{"/proc/cpuinfo", "/proc/acpi"}, []string{"/proc/sys"}
		linux["seccomp"] = object{"defaultAction": "SCMP_ACT_ALLOW", "architectures": []string{"SCMP_ARCH_X86_64"}, "syscalls": []object{{"names": []string{"mkdir", "mkdirat"}, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}}}
		r := d.runSpec(t, "fields", s)
		want := `1000
1001
1001 5 1005
0027
CapBnd: 0000000000000420
CapEff: 0000000000000020
CapAmb: 0000000000000020
NoNewPrivs: 1
Seccomp: 2
100
200
321
9001
77
inside
/tmp
b
0
c
`
		if diff := cmp.Diff(sorted(want), sorted(r.out)); diff != "" {
			t.Errorf("exit %d, %s\n%s", r.code, r.err, diff)
		}
	})
}

// sorted makes the order of lines of no matter, which /proc decides.
func sorted(s string) map[string]int {
	lines := make(map[string]int)
	for line := range strings.Lines(s) {
		lines[line]++
	}
	return lines
}

func TestSeccompIsInForce(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		s := spec(rootfs(t), "busybox mkdir /tmp/x && echo made; echo done")
		s["linux"].(object)["seccomp"] = object{"defaultAction": "SCMP_ACT_ALLOW", "architectures": []string{"SCMP_ARCH_X86_64"}, "syscalls": []object{{"names": []string{"mkdir", "mkdirat"}, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}}}
		if r := d.runSpec(t, "seccomp", s); r.out != "done\n" || !strings.Contains(r.err, "not permitted") {
			t.Errorf("got %+v", r)
		}
	})
}

func TestUserNamespace(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		s := spec(rootfs(t), "id -u; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '")
		linux := s["linux"].(object)
		linux["namespaces"] = append(linux["namespaces"].([]object), object{"type": "user"})
		linux["uidMappings"] = []object{{"containerID": 0, "hostID": 1000, "size": 500}}
		linux["gidMappings"] = []object{{"containerID": 0, "hostID": 2000, "size": 600}}
		if r := d.runSpec(t, "userns", s); r.out != "0\n 0 1000 500\n 0 2000 600\n" {
			t.Errorf("got %+v", r)
		}
	})
}

// Hooks of the host see a process of the host in the container's network; that
// of the container runs in the guest.
func TestHooks(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		dir := t.TempDir()
		script := filepath.Join(dir, "hook")
		text := "#!/bin/sh\nPATH=/bin:/usr/bin\ncat >" + dir + "/$1.state\nuname -r >" + dir + "/$1.kernel\n" +
			"pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' " + dir + "/$1.state)\nreadlink /proc/$pid/ns/net >" + dir + "/$1.net || true\n"
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		root := rootfs(t)
		s := spec(root, "cat /started")
		hooks := object{"startContainer": []object{{"path": "/bin/sh", "args": []string{"sh", "-c", "echo started $(/bin/busybox uname -r) >/started"}, "env": []string{"PATH=/bin"}}}}
		for _, kind := range []string{"createRuntime", "createContainer", "poststart", "poststop"} {
			hooks[kind] = []object{{"path": script, "args": []string{"hook", kind}}}
		}
		s["hooks"] = hooks
		r := d.runSpec(t, "hooks", s)
		host, _ := os.ReadFile("/proc/sys/kernel/osrelease")
		if !strings.HasPrefix(r.out, "started ") || strings.Contains(r.out, strings.TrimSpace(string(host))) {
			t.Errorf("the hook in the guest leaves %+v", r)
		}
		own, _ := os.Readlink("/proc/self/ns/net")
		nets := map[string]bool{}
		for _, kind := range []string{"createRuntime", "createContainer", "poststart"} {
			net, err := os.ReadFile(filepath.Join(dir, kind+".net"))
			if err != nil || strings.TrimSpace(string(net)) == own || len(net) == 0 {
				t.Errorf("%s is told a process in network %q, %v; the host's is %s", kind, net, err, own)
			}
			nets[string(net)] = true
		}
		if len(nets) != 1 {
			t.Errorf("networks are %v", nets)
		}
		eventually(t, "the last hook", func() bool {
			kernel, _ := os.ReadFile(filepath.Join(dir, "poststop.kernel"))
			return string(kernel) == string(host)
		})
		state, _ := os.ReadFile(filepath.Join(dir, "createRuntime.state"))
		var told struct{ ID, Status, Bundle string }
		if err := json.Unmarshal(state, &told); err != nil || told.ID != "hooks" || told.Status != "creating" {
			t.Errorf("a hook is told %s, %v", state, err)
		}
	})
}

// Each field that cannot be honoured is refused by its name.
func TestSpecRefusals(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		root := rootfs(t)
		for want, change := range map[string]func(s, process, linux object){
			"process.apparmorProfile": func(_, p, _ object) { p["apparmorProfile"] = "docker-default" },
			"process.selinuxLabel":    func(_, p, _ object) { p["selinuxLabel"] = "x:y:z" },
			"process.scheduler":       func(_, p, _ object) { p["scheduler"] = object{"policy": "SCHED_FIFO", "priority": 1} },
			"linux.intelRdt":          func(_, _, l object) { l["intelRdt"] = object{"closID": "x"} },
			"linux.sysctl":            func(_, _, l object) { l["sysctl"] = object{"kernel.panic": "1"} },
			"swappiness":              func(_, _, l object) { l["resources"] = object{"memory": object{"swappiness": 5}} },
			"linux.devices[0]": func(_, _, l object) {
				l["devices"] = []object{{"path": "/dev/kvm", "type": "c", "major": 10, "minor": 232}}
			},
			"seccomp":          func(_, _, l object) { l["seccomp"] = object{"defaultAction": "SCMP_ACT_NOTIFY"} },
			"linux.namespaces": func(_, _, l object) { l["namespaces"] = []object{{"type": "mount"}} },
		} {
			if want == "process.scheduler" && !d.isNew() {
				// This client leaves it out itself.
				continue
			}
			s := spec(root, "true")
			change(s, s["process"].(object), s["linux"].(object))
			id := fmt.Sprintf("refused-%d", len(want))
			if r := d.runSpec(t, id, s); r.code == 0 || !strings.Contains(r.err, want) {
				t.Errorf("%s gives %+v", want, r)
			}
			d.remove(id)
		}
	})
}
