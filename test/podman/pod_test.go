package podman

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dougong.dev/dougong/test/enclave"
)

// own is Podman with networks of its own, which pods are on unless told otherwise.
var own = enclave.Client{Name: "podman", Command: onNetworks, Remove: podman.Remove}

// newPod makes a pod that ends with the test.
func newPod(t *testing.T, name string, flags ...string) {
	t.Helper()
	own.Must(t, append([]string{"pod", "create", "--name", name}, flags...)...)
	t.Cleanup(func() {
		if _, err := own.Run("pod", "rm", "--force", "--time", "0", name); err != nil {
			t.Error(err)
		}
	})
}

// inPod runs a container in a pod, and waits until it says "ready".
func inPod(t *testing.T, pod, name string, flags []string, script string) {
	t.Helper()
	own.Must(t, append(append([]string{"run", "--detach", "--pod", pod, "--name", name}, flags...), image, "sh", "-c", script)...)
	enclave.Await(t, "ready", func() string { out, _ := own.Run("logs", name); return out })
}

// bootOf is what tells a kernel's boot from others.
func bootOf(t *testing.T, container string) string {
	t.Helper()
	return own.Must(t, "exec", container, "cat", "/proc/sys/kernel/random/boot_id")
}

// machines are the sandbox processes there are.
func machines() int {
	return len(enclave.Processes(filepath.Join(suite.Bin, "containerd-shim"), 0))
}

const server = `echo hello >/tmp/index.html; echo ready; exec httpd -f -p 80 -h /tmp`

// TestPod has two containers in one virtual machine, which come and go.
func TestPod(t *testing.T) {
	newPod(t, "pod", "--publish", "8089:80")
	inPod(t, "pod", "web", nil, server)
	inPod(t, "pod", "side", []string{"--memory", "300m"}, enclave.Sleeper)
	if got := machines(); got != 1 {
		t.Errorf("there are %d virtual machines", got)
	}
	if one, other := bootOf(t, "web"), bootOf(t, "side"); one != other {
		t.Errorf("the containers have kernels of their own: %q and %q", one, other)
	}
	enclave.Serves(t, "http://127.0.0.1:8089/index.html", "hello\n")
	for _, tt := range []struct {
		what, script, want string
	}{
		{"the loopback interface", "wget -q -O - http://127.0.0.1/index.html", "hello"},
		{"the pod's name", "hostname", "pod"},
		{"names of its own", "ps | grep '[h]ttpd' || echo none", "none"},
		{"limits of its own", "cat /sys/fs/cgroup/memory.max", "314572800"},
	} {
		if got, _ := own.Run("exec", "side", "sh", "-c", tt.script); got != tt.want {
			t.Errorf("%s: a container has %q, want %q", tt.what, got, tt.want)
		}
	}
	// Shared memory, both ways.
	own.Must(t, "exec", "web", "sh", "-c", "echo shared >/dev/shm/file")
	if got := own.Must(t, "exec", "side", "cat", "/dev/shm/file"); got != "shared" {
		t.Errorf("the other container's shared memory has %q", got)
	}
	own.Check(t, enclave.Said{Out: "out\n", Errs: "err\n", Code: 3}, "run", "--rm", "--pod", "pod", image, "sh", "-c", "echo out; echo err >&2; exit 3")
	before := bootOf(t, "web")
	own.Must(t, "restart", "--time", "5", "side")
	enclave.Await(t, "ready\nterm\nready", func() string { out, _ := own.Run("logs", "side"); return out })
	own.Must(t, "kill", "side")
	if got := own.Must(t, "wait", "side"); got != "137" {
		t.Errorf("the container that was killed ended with %q", got)
	}
	if after := bootOf(t, "web"); after != before {
		t.Error("the virtual machine is another")
	}
	own.Must(t, "pod", "stop", "--time", "5", "pod")
	if got := machines(); got != 0 {
		t.Errorf("of the pod that was stopped there are %d virtual machines", got)
	}
	own.Must(t, "pod", "start", "pod")
	enclave.Serves(t, "http://127.0.0.1:8089/index.html", "hello\n")
	if got := own.Must(t, "pod", "ps", "--format", "{{.Name}} {{.Status}} {{.NumberOfContainers}}"); got != "pod Running 3" {
		t.Errorf("the pod is %q", got)
	}
}

// TestPodIsLost kills what the pod runs in: all of its containers end, and can
// be started again.
func TestPodIsLost(t *testing.T) {
	newPod(t, "lost")
	inPod(t, "lost", "member", nil, enclave.Sleeper)
	infra := own.Must(t, "pod", "inspect", "--format", "{{.InfraContainerID}}", "lost")
	killShim(t, infra)
	for _, id := range []string{infra, "member"} {
		enclave.Await(t, "exited 137", func() string {
			return own.Must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", id)
		})
	}
	own.Must(t, "pod", "start", "lost")
	if got := own.Must(t, "exec", "member", "echo", "again"); got != "again" {
		t.Errorf("exec prints %q", got)
	}
}

// TestPodWithOneProcessTree has a container see another one's processes.
func TestPodWithOneProcessTree(t *testing.T) {
	newPod(t, "tree", "--share", "net,ipc,uts,pid")
	inPod(t, "tree", "seen", nil, `echo ready; exec sleep 4321`)
	got := own.Must(t, "run", "--rm", "--pod", "tree", image, "sh", "-c", "ps -o args | grep '[s]leep 4321'; cat /proc/1/comm")
	if got != "sleep 4321\ncatatonit" {
		t.Errorf("a container sees %q", got)
	}
}

// TestPodWithoutInfra has containers that share nothing, each in a virtual
// machine of its own.
func TestPodWithoutInfra(t *testing.T) {
	newPod(t, "loose", "--infra=false")
	inPod(t, "loose", "one", none, enclave.Sleeper)
	inPod(t, "loose", "two", none, enclave.Sleeper)
	if one, other := bootOf(t, "one"), bootOf(t, "two"); one == other {
		t.Error("the containers share a kernel")
	}
}

// TestNamespacesOfAnother has containers join another one's namespaces without
// a pod, and be told where that cannot be.
func TestNamespacesOfAnother(t *testing.T) {
	id := own.Start(t, nil, image, server)
	for _, tt := range []struct {
		what   string
		flags  []string
		script string
		want   string
	}{
		{"network", []string{"--network", "container:" + id}, "wget -q -O - http://127.0.0.1/index.html; ps | grep '[h]ttpd' || echo alone", "hello\nalone"},
		{"network and processes", []string{"--network", "container:" + id, "--pid", "container:" + id}, "wget -q -O - http://127.0.0.1/index.html; ps -o args | grep -c '[h]ttpd'", "hello\n1"},
		{"processes alone", []string{"--network", "none", "--pid", "container:" + id}, "ls /sys/class/net; ps -o args | grep -c '[h]ttpd'", "lo\n1"},
	} {
		if got, err := own.Run(append(append([]string{"run", "--rm"}, tt.flags...), image, "sh", "-c", tt.script)...); strings.TrimSpace(got) != tt.want {
			t.Errorf("%s: it says %q, %v, want %q", tt.what, got, err, tt.want)
		}
	}
	own.Fails(t, "a virtual machine has one network", "run", "--rm", "--pid", "container:"+id, image, "true")
	other := own.Start(t, nil, image, enclave.Sleeper)
	own.Fails(t, "two virtual machines", "run", "--rm", "--network", "container:"+id, "--pid", "container:"+other, image, "true")
	// Who has joined ends with the one that was joined.
	joined := own.Start(t, []string{"--network", "container:" + id}, image, enclave.Sleeper)
	own.Must(t, "kill", id)
	if got := own.Must(t, "wait", joined); got != "137" {
		t.Errorf("it ended with %q", got)
	}
}

const kube = `apiVersion: v1
kind: Pod
metadata:
  name: played
spec:
  volumes:
  - name: files
    hostPath: {path: %q, type: Directory}
  containers:
  - name: web
    image: localhost/busybox
    command: [sh, -c, "httpd -f -p 80 -h /files"]
    ports: [{containerPort: 80, hostPort: 8087}]
    volumeMounts: [{name: files, mountPath: /files}]
  - name: writer
    image: localhost/busybox
    command: [sh, -c, "echo written >/files/index.html; exec sleep 1000"]
    resources: {limits: {memory: 200Mi}}
    volumeMounts: [{name: files, mountPath: /files}]
`

// TestKube plays a pod of Kubernetes' kind, and plays again what is made of it.
func TestKube(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pod.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, kube, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	down := func(file string) {
		if out, err := own.Run("play", "kube", "--down", file); err != nil {
			t.Error(out, err)
		}
	}
	own.Must(t, "play", "kube", file)
	enclave.Serves(t, "http://127.0.0.1:8087/index.html", "written\n")
	if one, other := bootOf(t, "played-web"), bootOf(t, "played-writer"); one != other || machines() != 1 {
		t.Error("the containers have kernels of their own")
	}
	again := filepath.Join(dir, "again.yaml")
	own.Must(t, "generate", "kube", "--filename", again, "played")
	down(file)
	if got := machines(); got != 0 {
		t.Errorf("of the pod that was taken down there are %d virtual machines", got)
	}
	if err := os.Remove(filepath.Join(dir, "index.html")); err != nil {
		t.Fatal(err)
	}
	own.Must(t, "play", "kube", again)
	enclave.Serves(t, "http://127.0.0.1:8087/index.html", "written\n")
	down(again)
}

// TestPodStats has numbers for each container of a pod.
func TestPodStats(t *testing.T) {
	newPod(t, "counted")
	inPod(t, "counted", "busy", nil, enclave.Sleeper)
	var stats []struct {
		Mem string `json:"mem_usage"`
	}
	out := own.Must(t, "stats", "--no-stream", "--format", "json", "busy")
	if err := json.Unmarshal([]byte(out), &stats); err != nil || len(stats) != 1 || stats[0].Mem == "" || strings.HasPrefix(stats[0].Mem, "0B") {
		t.Errorf("stats are %s, %v", out, err)
	}
	if got := own.Must(t, "top", "busy", "-o", "pid,args"); !strings.Contains(got, "sleep 1000") {
		t.Errorf("top shows %q", got)
	}
}
