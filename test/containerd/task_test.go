package containerd

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

func TestTask(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		events := d.events(t)
		d.detach(t, "task", nil, "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done")
		if s := d.status(t, "task"); s != "RUNNING" {
			t.Errorf("status is %s", s)
		}
		if r := d.ctr(t, "task", "exec", "--exec-id", "exec1", "task", "sh", "-c", "echo in; echo err >&2; exit 9"); r.code != 9 || r.out != "in\n" || !strings.HasPrefix(r.err, "err\n") {
			t.Errorf("exec gives %+v", r)
		}
		if out := d.ok(t, "task", "ps", "task"); len(strings.Split(strings.TrimSpace(out), "\n")) < 2 {
			t.Errorf("processes are %q", out)
		}
		if out := d.ok(t, "task", "metrics", "task"); !strings.Contains(out, "memory.usage_in_bytes") && !strings.Contains(out, "memory.stat") && !strings.Contains(out, "memory.usage") {
			t.Errorf("metrics are %q", out)
		}
		d.ok(t, "task", "pause", "task")
		if s := d.status(t, "task"); s != "PAUSED" {
			t.Errorf("status is %s", s)
		}
		d.ok(t, "task", "resume", "task")
		if r := d.ctr(t, "task", "delete", "task"); r.code == 0 {
			t.Error("a task that runs can be deleted")
		}
		d.ok(t, "task", "kill", "task")
		eventually(t, "the task stops", func() bool { return d.status(t, "task") == "STOPPED" })
		if r := d.ctr(t, "task", "delete", "task"); r.code != 5 && !strings.Contains(r.err, "5") {
			t.Errorf("delete gives %+v", r)
		}
		eventually(t, "all events", func() bool {
			got := events.tasks("task")
			return len(got) > 0 && got[len(got)-1] == "delete"
		})
		want := []string{"create", "start", "exec-added", "exec-started", "exec-exit", "paused", "resumed", "exit", "delete"}
		if diff := cmp.Diff(want, events.tasks("task")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestExecsEndFirst(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		events := d.events(t)
		d.detach(t, "order", nil, "sleep", "1000")
		d.ok(t, "task", "exec", "-d", "--exec-id", "exec1", "order", "sleep", "1000")
		d.ok(t, "task", "kill", "-s", "KILL", "order")
		eventually(t, "the exit", func() bool { return d.status(t, "order") == "STOPPED" })
		eventually(t, "all events", func() bool { return len(events.tasks("order")) >= 6 })
		want := []string{"create", "start", "exec-added", "exec-started", "exec-exit", "exit"}
		if diff := cmp.Diff(want, events.tasks("order")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOOM(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		events := d.events(t)
		r := d.run(t, "oom", []string{"--memory-limit", "20000000"}, "dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1")
		if r.code != 137 {
			t.Errorf("got %+v", r)
		}
		want := []string{"create", "start", "oom", "exit", "delete"}
		eventually(t, "all events", func() bool { return len(events.tasks("oom")) >= len(want) })
		if diff := cmp.Diff(want, events.tasks("oom")); diff != "" {
			t.Error(diff)
		}
	})
}

// inTerminal runs ctr in a terminal of 30 rows and 100 columns.
func (d *daemon) inTerminal(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := d.command(args...)
	user, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	if _, err := io.WriteString(user, input); err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(user)
	_ = cmd.Wait()
	return string(out)
}

func TestTerminal(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		out := d.inTerminal(t, "typed\n", runArgs("tty", []string{"--rm", "-t"}, "sh", "-c", "tty; read line; echo got $line; stty size; exit 4")...)
		for _, want := range []string{"/dev/pts/0", "got typed", "30 100"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in %q", want, out)
			}
		}
	})
}

func TestAttach(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		t.Cleanup(func() { d.remove("attach") })
		// A client that goes away leaves the task as it is.
		first := d.talk(t, runArgs("attach", nil, "sh", "-c", "while read line; do echo got $line; done")...)
		first.ask("one\n", "got one\n")
		first.leave()
		if s := d.status(t, "attach"); s != "RUNNING" {
			t.Fatalf("status is %s", s)
		}
		second := d.talk(t, "task", "attach", "attach")
		second.ask("two\n", "got two\n")
	})
}

func TestLogs(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		dir := t.TempDir()
		program := filepath.Join(dir, "logger")
		script := "#!/bin/sh\nPATH=/bin:/usr/bin\nexec 5>&-\ncat <&3 >" + dir + "/program &\ncat <&4 >>" + dir + "/complaints\nwait\n"
		if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, uri := range map[string]string{"program": "binary://" + program, "file": "file://" + dir + "/file"} {
			d.detach(t, name, []string{"--log-uri", uri}, "echo", "logged")
			eventually(t, "the task stops", func() bool { return d.status(t, name) == "STOPPED" })
			eventually(t, "the log is complete", func() bool {
				got, _ := os.ReadFile(filepath.Join(dir, name))
				return string(got) == "logged\n"
			})
		}
	})
}
