package docker

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dougong.dev/dougong/test/enclave"
)

const image = "busybox"

// none is the network that needs nothing of the host.
var none = []string{"--network", "none"}

// start starts a container that says "ready", and waits for that.
func start(t *testing.T, flags []string, script string) string {
	t.Helper()
	return docker.Start(t, append(slices.Clone(none), flags...), image, script)
}

// run are the arguments that run a container to its end.
func run(flags, command []string) []string {
	return slices.Concat([]string{"run", "--rm"}, none, flags, []string{image}, command)
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name           string
		flags, command []string
		want           enclave.Said
	}{
		{"status and streams", nil, []string{"sh", "-c", "echo out; echo err >&2; exit 3"}, enclave.Said{Code: 3, Out: "out\n", Errs: "err\n"}},
		{"input", []string{"-i"}, []string{"cat"}, enclave.Said{Input: "some input\n", Out: "some input\n"}},
		{"no such command", nil, []string{"missing"}, enclave.Said{Code: 127, Errs: "executable file not found"}},
		{"no command at all", nil, []string{"/etc"}, enclave.Said{Code: 126, Errs: "permission denied"}},
		{"user and rights", []string{"--user", "12:13", "--cap-drop", "all"}, []string{"sh", "-c", "id -u; id -g; grep CapBnd /proc/self/status"}, enclave.Said{Out: "12\n13\nCapBnd:\t0000000000000000\n"}},
		{"limits", []string{"--memory", "300m"}, []string{"cat", "/sys/fs/cgroup/memory.max"}, enclave.Said{Out: "314572800\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) { docker.Check(t, tt.want, run(tt.flags, tt.command)...) })
	}
	docker.OwnKernel(t, run)
}

// TestLife goes through everything that is done to a container that runs.
func TestLife(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	id := start(t, []string{"-v", dir + ":/data:ro"}, enclave.Sleeper)
	status := func() string {
		return docker.Must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", id)
	}
	if got := docker.Must(t, "exec", id, "cat", "/data/file"); got != "host" {
		t.Errorf("the bind has %q", got)
	}
	docker.Check(t, enclave.Said{Input: "input\n", Out: "input\n", Code: 4}, "exec", "-i", id, "sh", "-c", "cat; exit 4")
	docker.Must(t, "exec", "--detach", id, "sleep", "777")
	enclave.Await(t, "sleep 777", func() string { return docker.Must(t, "top", id) })
	if got := docker.Must(t, "stats", "--no-stream", "--format", "{{.MemUsage}}", id); !strings.Contains(got, "iB /") || strings.HasPrefix(got, "0B") {
		t.Errorf("stats are %q", got)
	}
	docker.Must(t, "pause", id)
	if got := status(); got != "paused 0" {
		t.Errorf("after pause it is %q", got)
	}
	docker.Must(t, "unpause", id)
	docker.Must(t, "update", "--memory", "200m", "--memory-swap", "300m", id)
	if got := docker.Must(t, "exec", id, "cat", "/sys/fs/cgroup/memory.max"); got != "209715200" {
		t.Errorf("after update the limit is %q", got)
	}
	docker.Must(t, "cp", filepath.Join(dir, "file"), id+":/tmp/copied")
	enclave.Await(t, "host", func() string { out, _ := docker.Run("exec", id, "cat", "/tmp/copied"); return out })
	docker.Must(t, "stop", id)
	if got := status(); got != "exited 5" {
		t.Errorf("after stop it is %q", got)
	}
	if got := docker.Must(t, "logs", id); got != "ready\nterm" {
		t.Errorf("it has said %q", got)
	}
	docker.Must(t, "start", id)
	if got := docker.Must(t, "exec", id, "cat", "/tmp/copied"); got != "host" {
		t.Errorf("after start the file has %q", got)
	}
	docker.Must(t, "kill", id)
	if got := docker.Must(t, "wait", id); got != "137" {
		t.Errorf("after kill it ended with %q", got)
	}
}

// TestRestart has the daemon start a container again and again.
func TestRestart(t *testing.T) {
	id := start(t, []string{"--restart", "on-failure:2"}, `echo ready; exit 1`)
	enclave.Await(t, "2 exited", func() string {
		return docker.Must(t, "inspect", "--format", "{{.RestartCount}} {{.State.Status}}", id)
	})
	if got := docker.Must(t, "logs", id); got != "ready\nready\nready" {
		t.Errorf("it has said %q", got)
	}
}

// TestTerminal types into a container.
func TestTerminal(t *testing.T) {
	docker.Type(t, "until stty size | grep 33; do sleep 0.1; done; tty; exit 6\r", "33 77\r\n/dev/pts/0", 6, run([]string{"-it"}, []string{"sh"})...)
}
