package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLife goes the way of a container that its caller waits for as for a
// child of its own.
func TestLife(t *testing.T) {
	c := newContainer(t, `trap 'exit 7' TERM; echo out; echo err >&2; cat; sleep 1000 & wait`)
	c.spec["annotations"] = map[string]string{"org.example": "yes"}
	c.create(strings.NewReader("in\n"))
	child := pid(t, c.pidFile())
	if s := c.state(); s.Status != "created" || s.PID != child || s.ID != c.id || s.Bundle != c.bundle || s.Annotations["org.example"] != "yes" || s.Version == "" {
		t.Errorf("after create: %+v, want process %d", s, child)
	}
	if said := c.fails("create", "--bundle", c.bundle, c.id); !strings.Contains(said, "exists already") {
		t.Errorf("a second create says %q", said)
	}
	c.run("start", c.id)
	if got := c.out.until(t, "in\n"); got != "out\nin\n" {
		t.Errorf("output is %q", got)
	}
	if s := c.state(); s.Status != "running" || s.PID != child {
		t.Errorf("after start: %+v", s)
	}
	if said := c.fails("start", c.id); !strings.Contains(said, "running") {
		t.Errorf("a second start says %q", said)
	}
	if said := c.fails("delete", c.id); !strings.Contains(said, "--force") {
		t.Errorf("delete of a running one says %q", said)
	}
	c.run("kill", c.id, "TERM")
	if status := reap(t, child); !status.Exited() || status.ExitStatus() != 7 {
		t.Errorf("the process ended with %v", status)
	}
	if got := c.errs.all(t); got != "err\n" {
		t.Errorf("error output is %q", got)
	}
	if s := c.state(); s.Status != "stopped" || s.PID != 0 {
		t.Errorf("after the end: %+v", s)
	}
	if said := c.fails("kill", c.id, "TERM"); !strings.Contains(said, "container not running") {
		t.Errorf("kill of an ended one says %q", said)
	}
	c.run("kill", "--all", c.id, "KILL")
	c.run("delete", c.id)
	if said := c.fails("state", c.id); !strings.Contains(said, "does not exist") {
		t.Errorf("state of none says %q", said)
	}
	if said := c.fails("delete", c.id); !strings.Contains(said, "does not exist") {
		t.Errorf("delete of none says %q", said)
	}
	c.run("delete", "--force", c.id)
}

// TestSignals sends signals to the process that the pid file names, which are
// the container's, and kills it, which is the container's end.
func TestSignals(t *testing.T) {
	c := newContainer(t, `trap 'echo usr1' USR1; echo ready; while :; do sleep 1000 & wait $!; done`)
	c.create(nil)
	c.run("start", c.id)
	c.out.until(t, "ready\n")
	child := pid(t, c.pidFile())
	if err := unix.Kill(child, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	c.out.until(t, "usr1\n")
	if err := unix.Kill(child, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if status := reap(t, child); !status.Signaled() || status.Signal() != unix.SIGKILL {
		t.Errorf("the process ended with %v", status)
	}
	// The end of the output is that of the container.
	c.out.all(t)
	c.run("delete", "--force", c.id)
}

// TestKillBeforeStart ends a container that was never started.
func TestKillBeforeStart(t *testing.T) {
	c := newContainer(t, `echo never`)
	c.create(nil)
	c.run("kill", c.id, "KILL")
	if status := reap(t, pid(t, c.pidFile())); status.ExitStatus() != 137 {
		t.Errorf("the process ended with %v", status)
	}
	if got := c.out.all(t); got != "" {
		t.Errorf("it has run: %q", got)
	}
	c.run("delete", c.id)
}

// TestDeleteBeforeStart removes a container that was never started.
func TestDeleteBeforeStart(t *testing.T) {
	c := newContainer(t, `echo never`)
	c.create(nil)
	c.run("delete", c.id)
	reap(t, pid(t, c.pidFile()))
}

// TestKilledSandbox kills the sandbox process: whoever waits for the container
// learns of its end, and it can be deleted.
func TestKilledSandbox(t *testing.T) {
	c := newContainer(t, `echo ready; sleep 1000`)
	mark := filepath.Join(c.bundle, "poststop")
	c.spec["hooks"] = map[string]any{"poststop": []any{map[string]any{"path": "/bin/sh", "args": []string{"sh", "-c", "cat >" + mark}}}}
	c.create(nil)
	c.run("start", c.id)
	c.out.until(t, "ready\n")
	c.killSandbox()
	if status := reap(t, pid(t, c.pidFile())); status.ExitStatus() != 137 {
		t.Errorf("the process ended with %v", status)
	}
	if s := c.state(); s.Status != "stopped" {
		t.Errorf("after the end: %+v", s)
	}
	c.run("delete", c.id)
	if data, err := os.ReadFile(mark); err != nil || !strings.Contains(string(data), `"stopped"`) {
		t.Errorf("the hook after the end was told %q, %v", data, err)
	}
}

// TestPause stops a container's processes for a while.
func TestPause(t *testing.T) {
	c := newContainer(t, `while read -r line; do echo "got $line"; done`)
	in := newStream(t)
	c.create(in.reader)
	_ = in.reader.Close()
	c.run("start", c.id)
	if _, err := in.writer.WriteString("1\n"); err != nil {
		t.Fatal(err)
	}
	c.out.until(t, "got 1\n")
	c.run("pause", c.id)
	if s := c.state(); s.Status != "paused" {
		t.Errorf("after pause: %+v", s)
	}
	if _, err := in.writer.WriteString("2\n"); err != nil {
		t.Fatal(err)
	}
	c.run("resume", c.id)
	c.out.until(t, "got 2\n")
	_ = in.writer.Close()
	if status := reap(t, pid(t, c.pidFile())); status.ExitStatus() != 0 {
		t.Errorf("the process ended with %v", status)
	}
}
