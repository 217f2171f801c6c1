package critest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// client calls crictl.
type client struct {
	t              *testing.T
	program, dir   string
	socket, logDir string
	sandboxer      string
}

// eachSandboxer runs a test with pods that are made by annotations of a
// container, and by the Sandbox service, and with the distribution's containerd,
// which asks for the sandbox of each container.
func eachSandboxer(t *testing.T, test func(t *testing.T, c *client)) {
	t.Helper()
	for _, sandboxer := range []string{"podsandbox", "shim", old} {
		t.Run(sandboxer, func(t *testing.T) { test(t, newClient(t, sandboxer, "overlayfs")) })
	}
}

func newClient(t *testing.T, sandboxer, snapshotter string) *client {
	t.Helper()
	socket, critest := setUp(t, sandboxer, snapshotter)
	dir := filepath.Dir(socket)
	c := &client{t: t, program: filepath.Join(filepath.Dir(critest), "crictl"), dir: dir, socket: "unix://" + socket, logDir: filepath.Join(dir, "logs"), sandboxer: sandboxer}
	t.Cleanup(func() {
		if left := leftovers(t, socket); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	c.ok("pull", busybox)
	return c
}

const busybox = "registry.k8s.io/e2e-test-images/busybox:1.29-2"

// run runs crictl and returns its output, and its standard error with an error.
func (c *client) run(args ...string) (string, error) {
	cmd := exec.Command(c.program, append([]string{"-r", c.socket, "-i", c.socket, "-t", "120s"}, args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("crictl %q: %w: %s", args, err, errs.String())
	}
	return strings.TrimSpace(string(out)), err
}

func (c *client) ok(args ...string) string {
	c.t.Helper()
	out, err := c.run(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *client) file(name, content string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// pod starts a pod whose security context is given, and removes it at the end.
func (c *client) pod(name, linux string) (id, config string) {
	c.t.Helper()
	config = c.file(name+".json", fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"default","uid":%[1]q,"attempt":1},"hostname":%[1]q,"dns_config":{"servers":["10.9.8.7"]},"log_directory":%q,"linux":{%s}}`, name, c.logDir, linux))
	id = c.ok("runp", config)
	c.t.Cleanup(func() {
		if _, err := c.run("rmp", "-f", id); err != nil && !strings.Contains(err.Error(), "not found") {
			c.t.Error(err)
		}
	})
	return id, config
}

// container starts a container of a pod that runs a script.
func (c *client) container(pod, podConfig, name, linux, script string) string {
	c.t.Helper()
	config := c.file(name+".json", fmt.Sprintf(`{"metadata":{"name":%q},"image":{"image":%q},"command":["sh","-c",%q],"log_path":"%[1]s.log","linux":{%[4]s}}`, name, busybox, script, linux))
	id := c.ok("create", pod, config, podConfig)
	c.ok("start", id)
	return id
}

// state is what crictl says of a container.
func (c *client) state(id string) string {
	return c.ok("inspect", "-o", "go-template", "--template", "{{.status.state}}", id)
}

func (c *client) eventually(what string, holds func() bool) {
	c.t.Helper()
	for begin := time.Now(); !holds(); <-time.After(50 * time.Millisecond) {
		if time.Since(begin) > patience {
			c.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// processes are those of a kind that belong to this daemon's sandboxes: its
// shims by their directory, and the machines that are their children.
func (c *client) processes(kind string) []int {
	var shims, all []int
	parents := map[int]int{}
	names := map[int]string{}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		stat, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "stat"))
		var pid, parent int
		var name, state string
		if _, err := fmt.Sscan(string(stat), &pid, &name, &state, &parent); err != nil {
			continue
		}
		data, _ := os.ReadFile(path)
		parents[pid], names[pid] = parent, filepath.Base(strings.SplitN(string(data), "\x00", 2)[0])
		cwd, _ := os.Readlink(filepath.Join(filepath.Dir(path), "cwd"))
		if strings.HasPrefix(cwd, c.dir) && strings.HasPrefix(names[pid], "containerd-shim-dougong") {
			shims = append(shims, pid)
		}
	}
	for pid, name := range names {
		if strings.HasPrefix(name, kind) && (slices.Contains(shims, pid) || slices.Contains(shims, parents[pid])) {
			all = append(all, pid)
		}
	}
	return all
}

// A pod is one VM. Its containers share what its spec says, and come and go.
func TestPod(t *testing.T) { eachSandboxer(t, testPod) }

func testPod(t *testing.T, c *client) {
	t.Helper()
	pod, config := c.pod("pod", "")
	own := `"security_context":{"namespace_options":{"pid":1}}`
	first := c.container(pod, config, "first", own, "echo hi; echo shared >/dev/shm/file; sleep 1000")
	second := c.container(pod, config, "second", own, "while :; do sleep 1; done")
	if n := len(c.processes("qemu-system")); n != 1 {
		t.Errorf("%d machines run for one pod", n)
	}
	if out := c.ok("exec", "-s", second, "cat", "/dev/shm/file"); out != "shared" {
		t.Errorf("shared memory has %q", out)
	}
	if out := c.ok("exec", "-s", second, "hostname"); out != "pod" {
		t.Errorf("host name is %q", out)
	}
	if out := c.ok("exec", "-s", second, "cat", "/etc/hostname", "/etc/resolv.conf"); !strings.HasPrefix(out, "pod\n") || !strings.Contains(out, "nameserver 10.9.8.7") {
		t.Errorf("files of the pod are %q", out)
	}
	if out := c.ok("exec", "-s", second, "ps"); strings.Contains(out, "sleep 1000") {
		t.Errorf("processes of another container are seen: %s", out)
	}
	for _, ns := range []string{"ipc", "uts", "net"} {
		if a, b := c.namespace(first, ns), c.namespace(second, ns); a != b {
			t.Errorf("%s namespaces are %s and %s", ns, a, b)
		}
	}
	for _, ns := range []string{"pid", "mnt", "cgroup"} {
		if a, b := c.namespace(first, ns), c.namespace(second, ns); a == b {
			t.Errorf("%s namespace is shared", ns)
		}
	}
	c.ok("stop", "-t", "0", first)
	c.ok("rm", first)
	if out := c.ok("exec", "-s", second, "sh", "-c", "ls /sys/fs/cgroup >/dev/null && echo alive"); out != "alive" {
		t.Errorf("the other container says %q", out)
	}
	again := c.container(pod, config, "first", own, "echo again; exit 3")
	c.eventually("the container ends", func() bool { return c.state(again) == "CONTAINER_EXITED" })
	if out := c.ok("logs", again); out != "again" {
		t.Errorf("log has %q", out)
	}
}

func (c *client) namespace(id, kind string) string {
	c.t.Helper()
	return c.ok("exec", "-s", id, "readlink", "/proc/self/ns/"+kind)
}

// A shared pid namespace has a pid 1 that reaps and outlives containers.
func TestSharedPIDNamespace(t *testing.T) { eachSandboxer(t, testSharedPIDNamespace) }

func testSharedPIDNamespace(t *testing.T, c *client) {
	t.Helper()
	pod, config := c.pod("shared", "")
	shared := `"security_context":{"namespace_options":{"pid":0}}`
	first := c.container(pod, config, "first", shared, "sleep 1000")
	second := c.container(pod, config, "second", shared, "sh -c 'sleep 0.1 & exit 0'; sleep 2000")
	out := c.ok("exec", "-s", second, "ps")
	for _, want := range []string{"pause", "sleep 1000", "sleep 2000"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing among %s", want, out)
		}
	}
	c.eventually("orphans are reaped", func() bool { return !strings.Contains(c.ok("exec", "-s", second, "ps"), "sleep 0.1") })
	target := c.container(pod, config, "debug", fmt.Sprintf(`"security_context":{"namespace_options":{"pid":3,"target_id":%q}}`, first), "sleep 3000")
	if a, b := c.namespace(first, "pid"), c.namespace(target, "pid"); a != b {
		t.Errorf("pid namespaces of a container and one that targets it are %s and %s", a, b)
	}
	c.ok("exec", "-s", first, "sh", "-c", "kill -TERM 1")
	c.ok("stop", "-t", "0", first)
	if out := c.ok("exec", "-s", second, "ps"); strings.Contains(out, "sleep 1000") || !strings.Contains(out, "pause") {
		t.Errorf("after the end of a container there are %s", out)
	}
}

// Whatever is killed takes the whole pod along, and removing it leaves nothing.
func TestKilledPod(t *testing.T) { eachSandboxer(t, testKilledPod) }

func testKilledPod(t *testing.T, c *client) {
	t.Helper()
	for _, kind := range []string{"qemu-system", "containerd-shim-dougong-v2"} {
		pod, config := c.pod("killed", "")
		id := c.container(pod, config, "c", "", "sleep 1000")
		for _, pid := range c.processes(kind) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
		c.eventually("the end of the container after that of "+kind, func() bool { return c.state(id) == "CONTAINER_EXITED" })
		c.eventually("the end of the pod", func() bool {
			return c.ok("inspectp", "-o", "go-template", "--template", "{{.status.state}}", pod) == "SANDBOX_NOTREADY"
		})
		c.ok("rmp", "-f", pod)
		c.eventually("all is gone", func() bool { return len(c.processes("")) == 0 })
	}
}
