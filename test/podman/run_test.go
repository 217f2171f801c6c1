package podman

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"dougong.dev/dougong/test/enclave"
)

const patience = 90 * time.Second

// must runs a command that has to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := podman(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// leftovers are directories of containers and processes of ours.
func leftovers() []string {
	left := enclave.Processes(suite.Bin, 5*time.Second)
	dirs, _ := filepath.Glob("/run/dougong/[0-9a-f]*")
	return append(left, dirs...)
}

// none is the network that needs nothing of the host.
var none = []string{"--network", "none"}

// start starts a container that says "ready", and waits for that.
func start(t *testing.T, flags []string, script string) string {
	t.Helper()
	id := must(t, append(append(append([]string{"run", "--detach"}, none...), flags...), "localhost/busybox", "sh", "-c", script)...)
	t.Cleanup(func() {
		if _, err := podman("rm", "--force", "--time", "0", id); err != nil {
			t.Error(err)
		}
	})
	enclave.Await(t, "ready", func() string { out, _ := podman("logs", id); return out })
	return id
}

const sleeper = `trap "echo term; exit 5" TERM; echo ready; sleep 1000 & wait`

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name           string
		flags, command []string
		input          string
		code           int
		out, errs      string
	}{
		{"status and streams", nil, []string{"sh", "-c", "echo out; echo err >&2; exit 3"}, "", 3, "out\n", "err\n"},
		{"input", []string{"-i"}, []string{"cat"}, "some input\n", 0, "some input\n", ""},
		{"no such command", nil, []string{"missing"}, "", 127, "", "executable file not found"},
		{"no command at all", nil, []string{"/etc"}, "", 126, "", "/etc"},
		{"user and rights", []string{"--user", "12:13", "--cap-drop", "all"}, []string{"sh", "-c", "id -u; id -g; grep CapBnd /proc/self/status"}, "", 0, "12\n13\nCapBnd:\t0000000000000000\n", ""},
		{"a right added", []string{"--cap-drop", "all", "--cap-add", "net_raw"}, []string{"grep", "CapBnd", "/proc/self/status"}, "", 0, "CapBnd:\t0000000000002000\n", ""},
		{"for reading only", []string{"--read-only", "--tmpfs", "/t"}, []string{"sh", "-c", "touch /t/x; touch /x"}, "", 1, "", "Read-only file system"},
		{"names and limits", []string{"--hostname", "name", "--memory", "300m", "--env", "A=b", "--workdir", "/tmp"}, []string{"sh", "-c", "hostname; cat /sys/fs/cgroup/memory.max; echo $A; pwd"}, "", 0, "name\n314572800\nb\n/tmp\n", ""},
		{"an init", []string{"--init"}, []string{"sh", "-c", "tr '\\0' ' ' </proc/1/cmdline"}, "", 0, "/run/podman-init -- sh", ""},
		{"another kernel", nil, []string{"cat", "/proc/version"}, "", 0, "Linux version", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := command(append(append(append([]string{"run", "--rm"}, none...), tt.flags...), append([]string{"localhost/busybox"}, tt.command...)...)...)
			var out, errs bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(tt.input), &out, &errs
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != tt.code || !strings.Contains(out.String(), tt.out) || !strings.Contains(errs.String(), tt.errs) {
				t.Errorf("it ends with %d, prints %q and %q", got, &out, &errs)
			}
		})
	}
	if left := leftovers(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestManyRuns leaves nothing however often it is done.
func TestManyRuns(t *testing.T) {
	count := 5
	if os.Getenv("DOUGONG_LONG") != "" {
		count = 100
	}
	for i := range count {
		if got := must(t, append(append([]string{"run", "--rm"}, none...), "localhost/busybox", "echo", "hello")...); got != "hello" {
			t.Fatalf("run %d prints %q", i, got)
		}
	}
	if left := leftovers(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestLife stops and starts a container, whose files stay.
func TestLife(t *testing.T) {
	id := start(t, nil, sleeper)
	status := func() string {
		return must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", id)
	}
	must(t, "exec", id, "sh", "-c", "echo kept >/tmp/file")
	must(t, "stop", id)
	if got := status(); got != "exited 5" {
		t.Errorf("after stop it is %q", got)
	}
	if got := must(t, "logs", id); got != "ready\nterm" {
		t.Errorf("it has said %q", got)
	}
	must(t, "start", id)
	if got := must(t, "exec", id, "cat", "/tmp/file"); got != "kept" {
		t.Errorf("after start the file has %q", got)
	}
	must(t, "pause", id)
	if got := status(); !strings.HasPrefix(got, "paused") {
		t.Errorf("after pause it is %q", got)
	}
	must(t, "unpause", id)
	must(t, "kill", "--signal", "KILL", id)
	if got := must(t, "wait", id); got != "137" {
		t.Errorf("after kill it ended with %q", got)
	}
	must(t, "restart", id)
	if got := status(); !strings.HasPrefix(got, "running") {
		t.Errorf("after restart it is %q", got)
	}
}

func TestExec(t *testing.T) {
	id := start(t, nil, sleeper)
	for _, tt := range []struct {
		flags, command []string
		input          string
		code           int
		out            string
	}{
		{nil, []string{"sh", "-c", "echo out; exit 4"}, "", 4, "out\n"},
		{[]string{"-i"}, []string{"cat"}, "input\n", 0, "input\n"},
		{[]string{"--user", "7", "--workdir", "/tmp", "--env", "A=b"}, []string{"sh", "-c", "id -u; pwd; echo $A"}, "", 0, "7\n/tmp\nb\n"},
		{nil, []string{"missing"}, "", 127, ""},
	} {
		cmd := command(append(append(append([]string{"exec"}, tt.flags...), id), tt.command...)...)
		var out bytes.Buffer
		cmd.Stdin, cmd.Stdout = strings.NewReader(tt.input), &out
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != tt.code || out.String() != tt.out {
			t.Errorf("exec %q ends with %d and prints %q", tt.command, got, &out)
		}
	}
	must(t, "exec", "--detach", id, "sh", "-c", "sleep 777")
	enclave.Await(t, "sleep 777", func() string { return must(t, "top", id, "-o", "pid,args") })
}

// TestTerminal types into a container.
func TestTerminal(t *testing.T) {
	cmd := command(append(append([]string{"run", "--rm", "-it"}, none...), "localhost/busybox", "sh")...)
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 77})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	ended := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		_, _ = io.Copy(&all, terminal)
		ended <- all.String()
	}()
	if _, err := terminal.WriteString("stty size; tty; exit 6\r"); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-ended:
		if !strings.Contains(got, "33 77\r\n/dev/pts/0") {
			t.Errorf("the terminal shows %q", got)
		}
	case <-time.After(patience):
		t.Error("the shell does not end")
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 6 {
		t.Errorf("it ends with %d", got)
	}
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
	id := start(t, []string{"-v", filepath.Join(dir, "ro") + ":/ro:ro", "-v", filepath.Join(dir, "rw") + ":/rw", "-v", "volume:/volume"}, sleeper)
	if got := must(t, "exec", id, "cat", "/ro/file"); got != "host" {
		t.Errorf("the bind has %q", got)
	}
	if _, err := podman("exec", id, "touch", "/ro/new"); err == nil {
		t.Error("what is for reading only can be written to")
	}
	must(t, "exec", id, "sh", "-c", "echo guest >/rw/made; echo guest >/tmp/made; echo guest >/volume/made")
	if data, err := os.ReadFile(filepath.Join(dir, "rw", "made")); string(data) != "guest\n" {
		t.Errorf("the host has %q, %v", data, err)
	}
	for _, from := range []string{"/tmp/made", "/rw/made", "/volume/made"} {
		to := filepath.Join(dir, "copy")
		must(t, "cp", id+":"+from, to)
		if data, err := os.ReadFile(to); string(data) != "guest\n" {
			t.Errorf("the copy of %s has %q, %v", from, data, err)
		}
		_ = os.Remove(to)
	}
	must(t, "cp", filepath.Join(dir, "ro", "file"), id+":/tmp/copied")
	enclave.Await(t, "host", func() string { out, _ := podman("exec", id, "cat", "/tmp/copied"); return out })
	must(t, "commit", "--quiet", id, "localhost/committed")
	if got := must(t, append(append([]string{"run", "--rm"}, none...), "localhost/committed", "cat", "/tmp/made")...); got != "guest" {
		t.Errorf("the committed image has %q", got)
	}
	must(t, "rmi", "localhost/committed")
}

// TestLooks asks about a container.
func TestLooks(t *testing.T) {
	id := start(t, []string{"--health-cmd", "test -e /tmp/well", "--health-interval", "disable"}, sleeper)
	if got := must(t, "top", id); !strings.Contains(got, "trap") || strings.Contains(got, suite.Bin) || strings.Count(got, "\n") != 1 {
		t.Errorf("top shows:\n%s", got)
	}
	var stats []struct {
		ID  string `json:"id"`
		Mem string `json:"mem_usage"`
	}
	if err := json.Unmarshal([]byte(must(t, "stats", "--no-stream", "--format", "json", id)), &stats); err != nil || len(stats) != 1 || stats[0].Mem == "" || strings.HasPrefix(stats[0].Mem, "0B") {
		t.Errorf("stats are %+v, %v", stats, err)
	}
	if _, err := podman("healthcheck", "run", id); err == nil {
		t.Error("it is healthy before its time")
	}
	must(t, "exec", id, "touch", "/tmp/well")
	must(t, "healthcheck", "run", id)
	if got := must(t, "generate", "kube", id); !strings.Contains(got, "kind: Pod") {
		t.Errorf("generate kube prints:\n%s", got)
	}
	if got := must(t, "inspect", "--format", "{{.OCIRuntime}}", id); got != filepath.Join(suite.Bin, "dougong") {
		t.Errorf("the runtime is %q", got)
	}
}

// TestAttach starts a container with its streams.
func TestAttach(t *testing.T) {
	id := must(t, append(append([]string{"create", "-i"}, none...), "localhost/busybox", "cat")...)
	defer func() { must(t, "rm", "--force", id) }()
	cmd := command("start", "--attach", "--interactive", id)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout = strings.NewReader("typed\n"), &out
	if err := cmd.Run(); err != nil || out.String() != "typed\n" {
		t.Errorf("start prints %q, %v", &out, err)
	}
	if got := must(t, "wait", id); got != "0" {
		t.Errorf("it ended with %q", got)
	}
}

// TestKilledMachine kills the sandbox process of a container.
func TestKilledMachine(t *testing.T) {
	id := start(t, nil, sleeper)
	data, err := os.ReadFile(fmt.Sprintf("/run/dougong/%s/record.json", id))
	if err != nil || !bytes.Contains(data, []byte(id)) {
		t.Fatalf("the record is %s, %v", data, err)
	}
	killShim(t, id)
	enclave.Await(t, "exited 137", func() string {
		return must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", id)
	})
	must(t, "start", id)
	if got := must(t, "exec", id, "echo", "again"); got != "again" {
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
