package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A client that loses patience while the machine starts may try again, and
// nothing of the first time is left.
func TestCreateAfterATimeout(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		for _, after := range []string{"50ms", "200ms", "500ms"} {
			args := append([]string{"--timeout", after}, runArgs("late", []string{"-d"}, "sleep", "1000")...)
			if r := d.ctr(t, args...); r.code == 0 {
				d.remove("late")
			}
			// What the daemon tidies up by itself may take a moment.
			eventually(t, "another try", func() bool {
				_ = d.command("task", "rm", "-f", "late").Run()
				_ = d.command("container", "rm", "late").Run()
				return d.ctr(t, runArgs("late", []string{"-d"}, "sleep", "1000")...).code == 0
			})
			if out := d.ok(t, "task", "exec", "--exec-id", "look", "late", "echo", "hi"); out != "hi\n" {
				t.Errorf("after %s: exec gives %q", after, out)
			}
			if n := len(d.processes("qemu-system")); n != 1 {
				t.Errorf("after %s: %d machines run", after, n)
			}
			d.remove("late")
			d.checkLeaks(t)
		}
	})
}

// Whatever is killed while a container starts, the client gets an answer, which
// may be that it has started all the same (another machine takes the place of one
// that fails), and nothing is left once the container is deleted.
func TestKilledWhileStarting(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		delays := []time.Duration{0, 150 * time.Millisecond}
		if long {
			for ms := time.Duration(50); ms < 1000; ms += 100 {
				delays = append(delays, ms*time.Millisecond)
			}
		}
		for _, kind := range []string{"containerd-shim-dougong-v2", "qemu-system", "virtiofsd"} {
			for i, delay := range delays {
				id := fmt.Sprint("dying", i)
				cmd := d.command(runArgs(id, []string{"-d"}, "sleep", "1000")...)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
				eventually(t, kind+" is there", func() bool { return len(d.processes(kind)) > 0 })
				<-time.After(delay)
				for _, pid := range d.processes(kind) {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
				err := cmd.Wait()
				if !late.Stop() {
					t.Errorf("%s killed after %v: the client hangs", kind, delay)
				}
				if err == nil && kind != "qemu-system" && delay == 0 {
					t.Errorf("%s killed at once: the client is told that all is well", kind)
				}
				d.remove(id)
				d.checkLeaks(t)
			}
		}
	})
}

// containerd may die while it starts a container; afterwards nobody is left
// alone with the machine.
func TestDaemonKilledWhileStarting(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		delays := []time.Duration{300 * time.Millisecond}
		if long {
			// Right after the start of the sandbox process: containerd 1.6 then
			// knows nothing of it, and it ends by itself.
			delays = append(delays, 0)
		}
		for _, delay := range delays {
			cmd := d.command(runArgs("orphan", nil, "sleep", "1000")...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the sandbox process is there", func() bool { return len(d.processes("containerd-shim-dougong-v2")) > 0 })
			<-time.After(delay)
			d.kill()
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if err := d.start(); err != nil {
				t.Fatal(err)
			}
			d.remove("orphan")
			// One that the daemon does not know ends by itself after a minute.
			d.checkLeaksWithin(t, 2*time.Minute)
		}
	})
}

// A reader that stops reading holds up its own process, and nobody else.
func TestReaderThatStops(t *testing.T) {
	newest(t, func(t *testing.T, d *daemon) {
		x := d.talk(t, runArgs("slow", nil, "sh", "-c", "echo up; while :; do cat /bin/busybox; done")...)
		t.Cleanup(func() { d.remove("slow") })
		if line, err := x.out.ReadString('\n'); line != "up\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		if err := x.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if out := d.ok(t, "task", "exec", "--exec-id", "look", "slow", "echo", "hi"); out != "hi\n" {
				t.Errorf("exec gives %q", out)
			}
			d.ok(t, "task", "metrics", "slow")
		}
		// It ends all the same, though nobody takes its output.
		d.ok(t, "task", "kill", "-s", "KILL", "slow")
		eventually(t, "the task stops", func() bool { return d.status(t, "slow") == "STOPPED" })
	})
}

// A client that is gone leaves its process running, however much it writes.
func TestReaderThatIsGone(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		x := d.talk(t, runArgs("gone", nil, "sh", "-c", "echo up; while :; do cat /bin/busybox; sleep 0.1; done")...)
		t.Cleanup(func() { d.remove("gone") })
		if line, err := x.out.ReadString('\n'); line != "up\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		x.leave()
		for range 3 {
			if out := d.ok(t, "task", "exec", "--exec-id", "look", "gone", "echo", "hi"); out != "hi\n" {
				t.Errorf("exec gives %q", out)
			}
		}
		if s := d.status(t, "gone"); s != "RUNNING" {
			t.Errorf("status is %s", s)
		}
	})
}

// The runtime's options may hold the configuration's path or its text; a bad
// one is told with the line.
func TestBadConfiguration(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		path := filepath.Join(t.TempDir(), "bad.toml")
		if err := os.WriteFile(path, []byte("[vm]\ncpus = 1\nnonsense = 2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := d.ctr(t, "run", "--rm", "--runtime", runtimeName, "--runtime-config-path", path, imageName, "bad", "true")
		if r.code == 0 || !strings.Contains(r.err, "nonsense") {
			t.Errorf("got %+v", r)
		}
		d.remove("bad")
	})
}
