package vm

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDetached follows one container through every command of the engine.
func TestDetached(t *testing.T) {
	in := install(t)
	shared := in.mkdir("shared")
	const script = `trap 'echo asked; exit 5' USR1; echo ready; echo warning >&2; while :; do sleep 0.05; done`
	id := in.must("run", "-d", "--name", "web", "--label", "tier=front", "--stop-signal", "USR1", "-v", shared+":/shared", "-e", "FROM=run", busybox(), "sh", "-c", script)
	if len(id) != 64 {
		t.Errorf("id %q", id)
	}
	t.Run("inspect", func(t *testing.T) {
		c := in.inspect("web")
		if c.ID != id || c.Name != "web" || c.State != "running" || c.PID == 0 || c.StopSignal == "" || c.Labels["tier"] != "front" {
			t.Errorf("%+v", c)
		}
		if by := in.inspect(id[:12]); by.ID != id {
			t.Errorf("by the beginning of its id: %+v", by)
		}
	})
	t.Run("ps", func(t *testing.T) {
		for _, args := range [][]string{{"ps"}, {"ps", "-a"}} {
			out := in.must(args...)
			if !strings.Contains(out, id[:12]) || !strings.Contains(out, "web") || !strings.Contains(out, "Up ") {
				t.Errorf("%v:\n%s", args, out)
			}
		}
		if out := in.must("ps", "-q"); out != id[:12] {
			t.Errorf("ps -q: %q", out)
		}
	})
	t.Run("name is taken", func(t *testing.T) {
		in.dougong("run", "--rm", "--name", "web", busybox(), "true").wantError(t, 125, "web", "taken")
	})
	t.Run("exec", func(t *testing.T) { execs(t, in, "web") })
	t.Run("confinement", func(t *testing.T) { confinement(t, in) })
	t.Run("rm of a running one", func(t *testing.T) {
		in.dougong("rm", "web").wantError(t, 1, "running", "rm -f")
	})
	t.Run("logs", func(t *testing.T) {
		var r result
		eventually(t, "output in the log", func() bool { r = in.dougong("logs", "web"); return r.stdout != "" && r.stderr != "" })
		if r.stdout != "ready\n" || r.stderr != "warning\n" {
			t.Error(r)
		}
	})
	follow := in.command("logs", "-f", "web")
	var followed strings.Builder
	follow.Stdout = &followed
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	in.must("stop", "web")
	if err := follow.Wait(); err != nil || followed.String() != "ready\nasked\n" {
		t.Errorf("logs -f: %v, %q", err, &followed)
	}
	t.Run("after the end", func(t *testing.T) { afterTheEnd(t, in, "web", 5) })
}

func execs(t *testing.T, in *installation, name string) {
	for what, tt := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"outputs":        {[]string{name, "sh", "-c", "echo o; echo e >&2; exit 9"}, 9, "o\n", "e\n"},
		"environment":    {[]string{"-e", "MORE=x", name, "sh", "-c", "echo $FROM $MORE"}, 0, "run x\n", ""},
		"working dir":    {[]string{"-w", "/etc", name, "pwd"}, 0, "/etc\n", ""},
		"user by number": {[]string{"-u", "7:8", name, "sh", "-c", "id -u; id -g"}, 0, "7\n8\n", ""},
		"user by name":   {[]string{"-u", "nobody", name, "id", "-u"}, 0, "65534\n", ""},
		"killed":         {[]string{name, "sh", "-c", "kill -KILL $$"}, 137, "", ""},
		"shared file":    {[]string{name, "sh", "-c", "echo x > /shared/f; cat /shared/f"}, 0, "x\n", ""},
	} {
		t.Run(what, func(t *testing.T) {
			r := in.dougong(append([]string{"exec"}, tt.args...)...)
			if r.code != tt.code || r.stdout != tt.stdout || r.stderr != tt.stderr {
				t.Errorf("got %v\nwant %d, %q, %q", r, tt.code, tt.stdout, tt.stderr)
			}
		})
	}
	in.dougong("exec", name, "no-such-command").wantError(t, 127, "no-such-command")
	in.dougong("exec", name, "/etc/passwd").wantError(t, 126, "/etc/passwd")
	in.dougong("exec", "-u", "nobody-knows", name, "true").wantError(t, 125, "nobody-knows")
	in.dougong("exec", "-w", "/etc/passwd", name, "true").wantError(t, 125, "/etc/passwd")
	in.dougong("exec", "nobody", "true").wantError(t, 125, "no such container")
	in.must("exec", "-d", name, "sh", "-c", "echo detached > /tmp/detached")
	eventually(t, "the file of a detached exec", func() bool {
		return in.dougong("exec", name, "cat", "/tmp/detached").stdout == "detached\n"
	})
}

// confinement checks with how few rights the helpers of a sandbox run.
func confinement(t *testing.T, in *installation) {
	const filter = "2"
	qemu := in.one("qemu")
	for uid := range strings.FieldsSeq(qemu.status(t, "Uid")) {
		if uid == "0" {
			t.Errorf("QEMU runs with the user ids %s", qemu.status(t, "Uid"))
		}
	}
	if mode := qemu.status(t, "Seccomp"); mode != filter {
		t.Errorf("QEMU runs in seccomp mode %s", mode)
	}
	if caps := qemu.status(t, "CapEff"); strings.Trim(caps, "0") != "" {
		t.Errorf("QEMU has the capabilities %s", caps)
	}
	if joined := strings.Join(qemu.args, " "); !strings.Contains(joined, "elevateprivileges=deny") || !strings.Contains(joined, "spawn=deny") ||
		!strings.Contains(joined, "obsolete=deny") || !strings.Contains(joined, "resourcecontrol=deny") {
		t.Errorf("QEMU's sandbox has gaps: %s", joined)
	}
	daemons := in.find("virtiofsd")
	if len(daemons) == 0 {
		t.Error("no virtiofsd though there is a volume")
	}
	confined := 0
	for _, d := range daemons {
		// Debian's has a parent that only waits.
		if d.status(t, "Seccomp") == filter {
			confined++
		}
	}
	if confined == 0 {
		t.Error("no virtiofsd has a seccomp filter")
	}
}

// afterTheEnd checks what an ended container still answers, and removes it.
func afterTheEnd(t *testing.T, in *installation, name string, code int) {
	c := in.inspect(name)
	if c.State != "exited" || c.Exit == nil || c.Exit.Status != code || c.Exit.Error != "" || c.PID != 0 {
		t.Errorf("%+v, exit %+v", c, c.Exit)
	}
	if out := in.must("ps"); strings.Contains(out, name) {
		t.Errorf("ps shows an ended container:\n%s", out)
	}
	if out := in.must("ps", "-a"); !strings.Contains(out, "Exited (5)") {
		t.Errorf("ps -a:\n%s", out)
	}
	in.dougong("exec", name, "true").wantError(t, 125, "not running")
	in.dougong("kill", name).wantError(t, 1, "not running")
	in.must("stop", name)
	if out := in.must("logs", "-n", "1", name); out != "asked" {
		t.Errorf("logs -n 1: %q", out)
	}
	if left := processesOf(in.dir); len(left) > 0 {
		t.Errorf("processes of an ended container: %v", left)
	}
	in.must("rm", name)
	in.dougong("inspect", name).wantError(t, 1, "no such container")
	in.dougong("rm", name).wantError(t, 1, "no such container")
	in.must("rm", "-f", name)
}

// TestStopKills stops a container that does not want to.
func TestStopKills(t *testing.T) {
	in := install(t)
	in.must("run", "-d", "--name", "deaf", busybox(), "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
	begin := time.Now()
	in.must("stop", "-t", "1", "deaf")
	if took := time.Since(begin); took < time.Second {
		t.Errorf("stop took %v, and the container had a second", took)
	}
	if c := in.inspect("deaf"); c.Exit == nil || c.Exit.Status != 137 || c.Exit.Error != "" {
		t.Errorf("%+v", c.Exit)
	}
	in.must("rm", "deaf")
}

// TestAutoRemove removes containers that nobody waits for, and does not hold
// on to what the caller of run had open.
func TestAutoRemove(t *testing.T) {
	in := install(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := in.command("run", "-d", "--rm", "--name", "brief", busybox(), "sh", "-c", "trap 'exit 0' HUP; echo ready; while :; do sleep 0.05; done")
	cmd.ExtraFiles = []*os.File{write}
	r := in.finish(cmd, nil)
	_ = write.Close()
	if r.code != 0 {
		t.Fatal(r)
	}
	_ = read.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := read.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the sandbox holds on to a descriptor of the caller: %v", err)
	}
	eventually(t, "a container that can be asked to end", func() bool { return in.must("logs", "brief") == "ready" })
	in.must("kill", "-s", "HUP", "brief")
	eventually(t, "a container that removed itself", func() bool { return len(in.list()) == 0 })
}

// TestKeptAttached keeps what an attached container without --rm printed.
func TestKeptAttached(t *testing.T) {
	in := install(t)
	r := in.dougong("run", "--name", "kept", busybox(), "sh", "-c", "echo out; echo err >&2; exit 3")
	if r.code != 3 || r.stdout != "out\n" || r.stderr != "err\n" {
		t.Error(r)
	}
	logs := in.dougong("logs", "kept")
	if diff := cmp.Diff([]string{r.stdout, r.stderr}, []string{logs.stdout, logs.stderr}); diff != "" {
		t.Errorf("logs (-run +logs):\n%s", diff)
	}
	in.must("rm", "kept")
}
