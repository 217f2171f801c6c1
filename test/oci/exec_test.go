package oci

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// running starts a container that stays until it is killed.
func running(t *testing.T) *container {
	t.Helper()
	c := newContainer(t, `echo ready; sleep 1000`)
	c.create(nil)
	c.run("start", c.id)
	c.out.until(t, "ready\n")
	return c
}

// TestExec runs processes in a container, and waits for them in both ways.
func TestExec(t *testing.T) {
	c := running(t)
	cmd := c.command("exec", "--user", "12:34", "--cwd", "/tmp", "--env", "A=b", c.id, "sh", "-c", `cat; id -u; id -g; pwd; echo $A; exit 3`)
	var stdout bytes.Buffer
	cmd.Stdin, cmd.Stdout = strings.NewReader("in\n"), &stdout
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != 3 || stdout.String() != "in\n12\n34\n/tmp\nb\n" {
		t.Errorf("exec ends with %d and prints %q", got, &stdout)
	}
	for _, tt := range []struct {
		script string
		want   int
	}{{`echo hello; cat; exit 5`, 5}, {`kill -USR1 $$`, 128 + 10}} {
		process, pids, out := filepath.Join(c.bundle, "process.json"), filepath.Join(c.bundle, "exec.pid"), newStream(t)
		text := `{"args":["sh","-c","` + tt.script + `"],"cwd":"/","user":{"uid":0,"gid":0},"env":["PATH=/bin"]}`
		if err := os.WriteFile(process, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd = c.command("exec", "--detach", "--process", process, "--pid-file", pids, c.id)
		cmd.Stdin, cmd.Stdout = strings.NewReader("input\n"), out.writer
		if err := cmd.Run(); err != nil {
			t.Fatalf("exec: %v", err)
		}
		_ = out.writer.Close()
		if status := reap(t, pid(t, pids)); status.ExitStatus() != tt.want {
			t.Errorf("%s ended with %v", tt.script, status)
		}
		if got := out.all(t); tt.want == 5 && got != "hello\ninput\n" {
			t.Errorf("%s printed %q", tt.script, got)
		}
	}
}

// TestExecErrors has what goes wrong told on the error output and in the log.
func TestExecErrors(t *testing.T) {
	c := running(t)
	for _, tt := range []struct {
		args []string
		code int
		said string
	}{
		{[]string{c.id, "missing"}, 127, `exec "missing": executable file not found in $PATH`},
		{[]string{c.id, "/etc"}, 126, `exec "/etc"`},
		{[]string{c.id}, 125, "no command"},
		{[]string{"--detach", "--tty", c.id, "sh"}, 125, "--console-socket"},
		{[]string{"--preserve-fds", "1", c.id, "sh"}, 125, "--preserve-fds 1"},
		{[]string{"nobody", "true"}, 125, "no such container"},
	} {
		var stderr bytes.Buffer
		cmd := c.command(append([]string{"exec", "--pid-file", filepath.Join(c.bundle, "exec.pid")}, tt.args...)...)
		cmd.Stderr = &stderr
		_ = cmd.Run()
		log, err := os.ReadFile(c.log())
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(log)), "\n")
		last := lines[len(lines)-1]
		quoted := strings.ReplaceAll(tt.said, `"`, `\"`)
		if got := cmd.ProcessState.ExitCode(); got != tt.code || !strings.Contains(stderr.String(), tt.said) || !strings.Contains(last, quoted) || !strings.Contains(last, `"level":"error"`) {
			t.Errorf("exec %q ends with %d (want %d), says %q, and logs %s", tt.args, got, tt.code, &stderr, last)
		}
		if _, err := os.Stat(filepath.Join(c.bundle, "exec.pid")); err == nil {
			t.Errorf("exec %q leaves a pid file", tt.args)
		}
	}
}
