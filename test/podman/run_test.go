package podman

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dougong.dev/dougong/test/enclave"
)

const image = "localhost/busybox"

// none is the network that needs nothing of the host.
var none = []string{"--network", "none"}

func start(t *testing.T, flags []string, script string) string {
	t.Helper()
	return podman.Start(t, append(slices.Clone(none), flags...), image, script)
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
		{"no command at all", nil, []string{"/etc"}, enclave.Said{Code: 126, Errs: "/etc"}},
		{"user and rights", []string{"--user", "12:13", "--cap-drop", "all"}, []string{"sh", "-c", "id -u; id -g; grep CapBnd /proc/self/status"}, enclave.Said{Out: "12\n13\nCapBnd:\t0000000000000000\n"}},
		{"a right added", []string{"--cap-drop", "all", "--cap-add", "net_raw"}, []string{"grep", "CapBnd", "/proc/self/status"}, enclave.Said{Out: "CapBnd:\t0000000000002000\n"}},
		{"for reading only", []string{"--read-only", "--tmpfs", "/t"}, []string{"sh", "-c", "touch /t/x; touch /x"}, enclave.Said{Code: 1, Errs: "Read-only file system"}},
		{"names and limits", []string{"--hostname", "name", "--memory", "300m", "--env", "A=b", "--workdir", "/tmp"}, []string{"sh", "-c", "hostname; cat /sys/fs/cgroup/memory.max; echo $A; pwd"}, enclave.Said{Out: "name\n314572800\nb\n/tmp\n"}},
		{"an init", []string{"--init"}, []string{"sh", "-c", "tr '\\0' ' ' </proc/1/cmdline | cut -c 1-23"}, enclave.Said{Out: "/run/podman-init -- sh \n"}},
	} {
		t.Run(tt.name, func(t *testing.T) { podman.Check(t, tt.want, run(tt.flags, tt.command)...) })
	}
	podman.OwnKernel(t, run)
	if left := leftovers(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestUserNamespace runs containers in user namespaces, with and without the owners
// of a volume mapped.
func TestUserNamespace(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ids := []string{"--uidmap", "0:100000:5000", "--gidmap", "0:200000:5000"}
	for option, owner := range map[string]string{"": "65534:65534", ":idmap": "0:0"} {
		flags := append(slices.Clone(ids), "--volume", dir+":/data"+option)
		podman.Check(t, enclave.Said{Out: "0\n 0 100000 5000\n0:0\n" + owner + "\n"}, run(flags, []string{"sh", "-c", "id -u; tr -s ' ' </proc/self/uid_map; stat -c '%u:%g' /bin/busybox /data/file"})...)
	}
}

// TestRefused has what a virtual machine cannot do refused by name.
func TestRefused(t *testing.T) {
	for text, flags := range map[string][]string{
		"--preserve-fds 1":  {"--preserve-fds", "1", "--network", "none"},
		`without "network"`: {"--network", "host"},
		`without "pid"`:     {"--pid", "host", "--network", "none"},
		"/dev/net/tun":      {"--device", "/dev/net/tun", "--network", "none"},
	} {
		podman.Fails(t, text, slices.Concat([]string{"run", "--rm"}, flags, []string{image, "true"})...)
	}
}

// TestRestartPolicy has Podman start a container again until it ends well.
func TestRestartPolicy(t *testing.T) {
	id := start(t, []string{"--restart", "on-failure:5"}, `echo ready; test "$(wc -l </runs)" = 2 && exit 0; echo run >>/runs; exit 1`)
	enclave.Await(t, "exited 0 2", func() string {
		return podman.Must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}", id)
	})
	if got := podman.Must(t, "logs", id); got != "ready\nready\nready" {
		t.Errorf("it has said %q", got)
	}
}

// TestManyRuns leaves nothing however often it is done.
func TestManyRuns(t *testing.T) {
	count := 5
	if os.Getenv("DOUGONG_LONG") != "" {
		count = 100
	}
	for i := range count {
		if got := podman.Must(t, run(nil, []string{"echo", "hello"})...); got != "hello" {
			t.Fatalf("run %d prints %q", i, got)
		}
	}
	if left := leftovers(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestLife stops and starts a container, whose files stay.
func TestLife(t *testing.T) {
	id := start(t, nil, enclave.Sleeper)
	status := func() string {
		return podman.Must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", id)
	}
	podman.Must(t, "exec", id, "sh", "-c", "echo kept >/tmp/file")
	podman.Must(t, "stop", id)
	if got := status(); got != "exited 5" {
		t.Errorf("after stop it is %q", got)
	}
	if got := podman.Must(t, "logs", id); got != "ready\nterm" {
		t.Errorf("it has said %q", got)
	}
	podman.Must(t, "start", id)
	if got := podman.Must(t, "exec", id, "cat", "/tmp/file"); got != "kept" {
		t.Errorf("after start the file has %q", got)
	}
	podman.Must(t, "pause", id)
	if got := status(); !strings.HasPrefix(got, "paused") {
		t.Errorf("after pause it is %q", got)
	}
	podman.Must(t, "unpause", id)
	podman.Must(t, "kill", "--signal", "KILL", id)
	if got := podman.Must(t, "wait", id); got != "137" {
		t.Errorf("after kill it ended with %q", got)
	}
	podman.Must(t, "restart", id)
	if got := status(); !strings.HasPrefix(got, "running") {
		t.Errorf("after restart it is %q", got)
	}
}

func TestExec(t *testing.T) {
	id := start(t, nil, enclave.Sleeper)
	for _, tt := range []struct {
		flags, command []string
		want           enclave.Said
	}{
		{nil, []string{"sh", "-c", "echo out; exit 4"}, enclave.Said{Code: 4, Out: "out\n"}},
		{[]string{"-i"}, []string{"cat"}, enclave.Said{Input: "input\n", Out: "input\n"}},
		{[]string{"--user", "7", "--workdir", "/tmp", "--env", "A=b"}, []string{"sh", "-c", "id -u; pwd; echo $A"}, enclave.Said{Out: "7\n/tmp\nb\n"}},
		{nil, []string{"missing"}, enclave.Said{Code: 127}},
	} {
		podman.Check(t, tt.want, slices.Concat([]string{"exec"}, tt.flags, []string{id}, tt.command)...)
	}
	podman.Must(t, "exec", "--detach", id, "sh", "-c", "sleep 777")
	enclave.Await(t, "sleep 777", func() string { return podman.Must(t, "top", id, "-o", "pid,args") })
}

// TestTerminal types into a container.
func TestTerminal(t *testing.T) {
	podman.Type(t, "stty size; tty; exit 6\r", "33 77\r\n/dev/pts/0", 6, run([]string{"-it"}, []string{"sh"})...)
}

// TestFiles copies and commits files, and binds directories.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ro", "rw"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ro", "file"), []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	id := start(t, []string{"-v", filepath.Join(dir, "ro") + ":/ro:ro", "-v", filepath.Join(dir, "rw") + ":/rw", "-v", "volume:/volume"}, enclave.Sleeper)
	if got := podman.Must(t, "exec", id, "cat", "/ro/file"); got != "host" {
		t.Errorf("the bind has %q", got)
	}
	if _, err := podman.Run("exec", id, "touch", "/ro/new"); err == nil {
		t.Error("what is for reading only can be written to")
	}
	podman.Must(t, "exec", id, "sh", "-c", "echo guest >/rw/made; echo guest >/tmp/made; echo guest >/volume/made")
	if data, err := os.ReadFile(filepath.Join(dir, "rw", "made")); string(data) != "guest\n" {
		t.Errorf("the host has %q, %v", data, err)
	}
	for _, from := range []string{"/tmp/made", "/rw/made", "/volume/made"} {
		to := filepath.Join(dir, "copy")
		podman.Must(t, "cp", id+":"+from, to)
		if data, err := os.ReadFile(to); string(data) != "guest\n" {
			t.Errorf("the copy of %s has %q, %v", from, data, err)
		}
		_ = os.Remove(to)
	}
	podman.Must(t, "cp", filepath.Join(dir, "ro", "file"), id+":/tmp/copied")
	enclave.Await(t, "host", func() string { out, _ := podman.Run("exec", id, "cat", "/tmp/copied"); return out })
	podman.Must(t, "commit", "--quiet", id, "localhost/committed")
	if got := podman.Must(t, append(append([]string{"run", "--rm"}, none...), "localhost/committed", "cat", "/tmp/made")...); got != "guest" {
		t.Errorf("the committed image has %q", got)
	}
	podman.Must(t, "rmi", "localhost/committed")
}

// TestLooks asks about a container.
func TestLooks(t *testing.T) {
	id := start(t, []string{"--health-cmd", "test -e /tmp/well", "--health-interval", "disable"}, enclave.Sleeper)
	if got := podman.Must(t, "top", id); !strings.Contains(got, "trap") || strings.Contains(got, suite.Bin) || strings.Count(got, "\n") != 1 {
		t.Errorf("top shows:\n%s", got)
	}
	var stats []struct {
		ID  string `json:"id"`
		Mem string `json:"mem_usage"`
	}
	if err := json.Unmarshal([]byte(podman.Must(t, "stats", "--no-stream", "--format", "json", id)), &stats); err != nil || len(stats) != 1 || stats[0].Mem == "" || strings.HasPrefix(stats[0].Mem, "0B") {
		t.Errorf("stats are %+v, %v", stats, err)
	}
	if _, err := podman.Run("healthcheck", "run", id); err == nil {
		t.Error("it is healthy before its time")
	}
	podman.Must(t, "exec", id, "touch", "/tmp/well")
	podman.Must(t, "healthcheck", "run", id)
	if got := podman.Must(t, "generate", "kube", id); !strings.Contains(got, "kind: Pod") {
		t.Errorf("generate kube prints:\n%s", got)
	}
	if got := podman.Must(t, "inspect", "--format", "{{.OCIRuntime}}", id); got != filepath.Join(suite.Bin, "dougong") {
		t.Errorf("the runtime is %q", got)
	}
}

// TestAttach starts a container with its streams.
func TestAttach(t *testing.T) {
	id := podman.Must(t, append(append([]string{"create", "-i"}, none...), image, "cat")...)
	defer func() { podman.Must(t, "rm", "--force", id) }()
	cmd := command("start", "--attach", "--interactive", id)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout = strings.NewReader("typed\n"), &out
	if err := cmd.Run(); err != nil || out.String() != "typed\n" {
		t.Errorf("start prints %q, %v", &out, err)
	}
	if got := podman.Must(t, "wait", id); got != "0" {
		t.Errorf("it ended with %q", got)
	}
}

// TestKilledMachine kills the sandbox process of a container.
func TestKilledMachine(t *testing.T) {
	id := start(t, nil, enclave.Sleeper)
	data, err := os.ReadFile(fmt.Sprintf("/run/dougong/%s/record.json", id))
	if err != nil || !bytes.Contains(data, []byte(id)) {
		t.Fatalf("the record is %s, %v", data, err)
	}
	killShim(t, id)
	enclave.Await(t, "exited 137", func() string {
		return podman.Must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", id)
	})
	podman.Must(t, "start", id)
	if got := podman.Must(t, "exec", id, "echo", "again"); got != "again" {
		t.Errorf("exec prints %q", got)
	}
}

func killShim(t *testing.T, id string) {
	t.Helper()
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		line, _ := os.ReadFile(path)
		if !bytes.Contains(line, []byte("containerd-shim")) || !bytes.Contains(line, []byte("\x00"+id+"\x00")) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/", &pid); err != nil {
			t.Fatal(err)
		}
		process, err := os.FindProcess(pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("the container has no sandbox process")
}
