package docker

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"dougong.dev/dougong/test/enclave"
)

// must runs a command that has to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := docker(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// start starts a container that says "ready", and waits for that.
func start(t *testing.T, flags []string, script string) string {
	t.Helper()
	id := must(t, append(append([]string{"run", "--detach", "--network", "none"}, flags...), "busybox", "sh", "-c", script)...)
	t.Cleanup(func() { must(t, "rm", "--force", id) })
	enclave.Await(t, "ready", func() string { out, _ := docker("logs", id); return out })
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
		{"no command at all", nil, []string{"/etc"}, "", 126, "", "permission denied"},
		{"user and rights", []string{"--user", "12:13", "--cap-drop", "all"}, []string{"sh", "-c", "id -u; id -g; grep CapBnd /proc/self/status"}, "", 0, "12\n13\nCapBnd:\t0000000000000000\n", ""},
		{"limits", []string{"--memory", "300m"}, []string{"cat", "/sys/fs/cgroup/memory.max"}, "", 0, "314572800\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := command(append(append(append([]string{"run", "--rm", "--network", "none"}, tt.flags...), "busybox"), tt.command...)...)
			var out, errs bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(tt.input), &out, &errs
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != tt.code || out.String() != tt.out || !strings.Contains(errs.String(), tt.errs) {
				t.Errorf("it ends with %d, prints %q and %q", got, &out, &errs)
			}
		})
	}
}

// TestLife goes through everything that is done to a container that runs.
func TestLife(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	id := start(t, []string{"-v", dir + ":/data:ro"}, sleeper)
	status := func() string {
		return must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", id)
	}
	if got := must(t, "exec", id, "cat", "/data/file"); got != "host" {
		t.Errorf("the bind has %q", got)
	}
	cmd := command("exec", "-i", id, "sh", "-c", "cat; exit 4")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout = strings.NewReader("input\n"), &out
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != 4 || out.String() != "input\n" {
		t.Errorf("exec ends with %d and prints %q", got, &out)
	}
	must(t, "exec", "--detach", id, "sleep", "777")
	enclave.Await(t, "sleep 777", func() string { return must(t, "top", id) })
	if got := must(t, "stats", "--no-stream", "--format", "{{.MemUsage}}", id); !strings.Contains(got, "MiB /") {
		t.Errorf("stats are %q", got)
	}
	must(t, "pause", id)
	if got := status(); got != "paused 0" {
		t.Errorf("after pause it is %q", got)
	}
	must(t, "unpause", id)
	must(t, "update", "--memory", "200m", "--memory-swap", "300m", id)
	if got := must(t, "exec", id, "cat", "/sys/fs/cgroup/memory.max"); got != "209715200" {
		t.Errorf("after update the limit is %q", got)
	}
	must(t, "cp", filepath.Join(dir, "file"), id+":/tmp/copied")
	enclave.Await(t, "host", func() string { out, _ := docker("exec", id, "cat", "/tmp/copied"); return out })
	must(t, "stop", id)
	if got := status(); got != "exited 5" {
		t.Errorf("after stop it is %q", got)
	}
	must(t, "start", id)
	if got := must(t, "exec", id, "cat", "/tmp/copied"); got != "host" {
		t.Errorf("after start the file has %q", got)
	}
	must(t, "kill", id)
	if got := must(t, "wait", id); got != "137" {
		t.Errorf("after kill it ended with %q", got)
	}
}

// TestRestart has the daemon start a container again and again.
func TestRestart(t *testing.T) {
	id := start(t, []string{"--restart", "on-failure:2"}, `echo ready; exit 1`)
	enclave.Await(t, "2 exited", func() string {
		return must(t, "inspect", "--format", "{{.RestartCount}} {{.State.Status}}", id)
	})
	if got := must(t, "logs", id); got != "ready\nready\nready" {
		t.Errorf("it has said %q", got)
	}
}

// TestTerminal types into a container.
func TestTerminal(t *testing.T) {
	cmd := command("run", "--rm", "-it", "--network", "none", "busybox", "sh")
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
	if _, err := terminal.WriteString("until stty size | grep 33; do sleep 0.1; done; tty; exit 6\r"); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-ended:
		if !strings.Contains(got, "33 77\r\n/dev/pts/0") {
			t.Errorf("the terminal shows %q", got)
		}
	case <-time.After(90 * time.Second):
		t.Error("the shell does not end")
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 6 {
		t.Errorf("it ends with %d", got)
	}
}
