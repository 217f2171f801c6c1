package oci

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRun runs a container from its creation to its end.
func TestRun(t *testing.T) {
	c := newContainer(t, `cat; echo err >&2; exit 3`)
	c.write()
	cmd := c.command("run", "--bundle", c.bundle, "--pid-file", c.pidFile(), c.id)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("in\n"), &stdout, &stderr
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != 3 || stdout.String() != "in\n" || stderr.String() != "err\n" {
		t.Errorf("run ends with %d, prints %q and %q", got, &stdout, &stderr)
	}
	if _, err := os.Stat(filepath.Join(suite.state, c.id)); err == nil {
		t.Error("the container is still there")
	}
}

// TestRunDetached leaves the container to whoever reaps.
func TestRunDetached(t *testing.T) {
	c := newContainer(t, `exit 8`)
	c.write()
	c.run("run", "--detach", "--bundle", c.bundle, "--pid-file", c.pidFile(), c.id)
	if status := reap(t, pid(t, c.pidFile())); status.ExitStatus() != 8 {
		t.Errorf("the process ended with %v", status)
	}
}

// TestCreateErrors makes containers that cannot be made. Nothing of them may
// be left, which check looks for.
func TestCreateErrors(t *testing.T) {
	tests := map[string]struct {
		change func(*container)
		flags  []string
		want   string
	}{
		"root":     {func(c *container) { c.spec["root"] = map[string]any{"path": "nowhere"} }, nil, "root.path"},
		"command":  {func(c *container) { c.process()["args"] = []string{"missing"} }, nil, `exec "missing": executable file not found`},
		"terminal": {func(c *container) { c.process()["terminal"] = true }, nil, "--console-socket"},
		"socket":   {func(*container) {}, []string{"--console-socket", "/nowhere/s"}, "process.terminal"},
		"pidfile":  {func(*container) {}, []string{"--pid-file", "/nowhere/pid"}, "write pid file"},
		"files":    {func(*container) {}, []string{"--preserve-fds", "2"}, "--preserve-fds 2"},
		"mount": {func(c *container) {
			c.spec["mounts"] = append(c.spec["mounts"].([]any), map[string]any{"destination": "/x", "type": "nfs"})
		}, nil, "nfs"},
		"hook": {func(c *container) {
			c.spec["hooks"] = map[string]any{"createRuntime": []any{map[string]any{"path": "/bin/false"}}}
		}, nil, "createRuntime hook /bin/false"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newContainer(t, `true`)
			tt.change(c)
			c.write()
			said := c.fails(append(append([]string{"create", "--bundle", c.bundle}, tt.flags...), c.id)...)
			if !strings.Contains(said, tt.want) {
				t.Errorf("create says %q, want %q", said, tt.want)
			}
			log, err := os.ReadFile(c.log())
			if err != nil || !strings.Contains(string(log), `"level":"error"`) {
				t.Errorf("the log has %q, %v", log, err)
			}
			if left := c.leftovers(); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// TestHooks runs hooks of every kind in their order, each with its state.
func TestHooks(t *testing.T) {
	c := newContainer(t, `echo main`)
	note := filepath.Join(c.bundle, "notes")
	kinds := []string{"prestart", "createRuntime", "createContainer", "poststart", "poststop"}
	hooks := map[string]any{}
	for _, kind := range kinds {
		script := `state=$(cat); echo "` + kind + ` $state" | tr -d '\n' >>"` + note + `"; echo >>"` + note + `"`
		hooks[kind] = []any{map[string]any{"path": "/bin/sh", "args": []string{"sh", "-c", script}, "env": []string{"PATH=/bin:/usr/bin"}}}
	}
	c.spec["hooks"] = hooks
	c.create(nil)
	child := pid(t, c.pidFile())
	c.run("start", c.id)
	reap(t, child)
	c.run("delete", c.id)
	data, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) != len(kinds) {
		t.Fatalf("hooks noted %q", lines)
	}
	for i, status := range []string{"creating", "creating", "creating", "running", "stopped"} {
		if !strings.HasPrefix(lines[i], kinds[i]+" ") || !strings.Contains(lines[i], `"status":"`+status+`"`) || !strings.Contains(lines[i], `"id":"`+c.id+`"`) {
			t.Errorf("hook %d noted %q, want %s and %s", i, lines[i], kinds[i], status)
		}
	}
}

// TestMountsOfABundle binds directories, for reading only and for both.
func TestMountsOfABundle(t *testing.T) {
	c := newContainer(t, `cat /ro/file; echo guest >/rw/made; echo x >/ro/file || echo refused`)
	for _, dir := range []string{"ro", "rw"} {
		if err := os.Mkdir(filepath.Join(c.bundle, dir), 0o777); err != nil {
			t.Fatal(err)
		}
		c.spec["mounts"] = append(c.spec["mounts"].([]any), map[string]any{"destination": "/" + dir, "type": "bind", "source": dir, "options": []string{"rbind", dir}})
	}
	// The root file system is for reading only, so the places must be there.
	root := filepath.Join(c.bundle, "rootfs")
	if err := os.CopyFS(root, os.DirFS(suite.rootfs)); err != nil {
		t.Fatal(err)
	}
	c.spec["root"] = map[string]any{"path": "rootfs"}
	if err := os.WriteFile(filepath.Join(c.bundle, "ro", "file"), []byte("host\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	c.create(nil)
	c.run("start", c.id)
	if got := c.out.all(t); got != "host\nrefused\n" {
		t.Errorf("output is %q", got)
	}
	reap(t, pid(t, c.pidFile()))
	if data, err := os.ReadFile(filepath.Join(c.bundle, "rw", "made")); string(data) != "guest\n" {
		t.Errorf("the host has %q, %v", data, err)
	}
}
