package containerd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// exits waits for the exit of a task and returns the event.
func (s *stream) exit(t *testing.T, id string) string {
	t.Helper()
	var found string
	eventually(t, "the exit of "+id, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, line := range s.lines {
			if strings.Contains(line, "/tasks/exit") && strings.Contains(line, `"id":"`+id+`"`) {
				found = line
			}
		}
		return found != ""
	})
	return found
}

func TestKilledProcesses(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		for kind, sig := range map[string]syscall.Signal{
			"containerd-shim-dougong-v2": syscall.SIGKILL, "virtiofsd": syscall.SIGKILL, "qemu-system": syscall.SIGKILL,
			// The process that is reported stands for the container.
			standIn: syscall.SIGKILL,
		} {
			events := d.events(t)
			d.detach(t, "fault", nil, "sleep", "1000")
			d.signal(t, kind, sig)
			if e := events.exit(t, "fault"); !strings.Contains(e, `"exit_status":137`) {
				t.Errorf("after the end of %s: %s", kind, e)
			}
			d.remove("fault")
			d.checkLeaks(t)
		}
	})
}

// A guest that hangs is found out, here after four times the two seconds that
// the configuration allows.
func TestHungGuest(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		events := d.events(t)
		d.detach(t, "hung", nil, "sleep", "1000")
		d.signal(t, "qemu-system", syscall.SIGSTOP)
		if e := events.exit(t, "hung"); !strings.Contains(e, `"exit_status":137`) {
			t.Errorf("the exit is %s", e)
		}
	})
}

// exitsForwarded counts the exits that the daemon has taken from shims.
func (d *daemon) exitsForwarded(t *testing.T) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(d.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(log, []byte("topic=/tasks/exit type=containerd.events.TaskExit"))
}

func TestDaemonRestart(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		d.detach(t, "stays", nil, "sleep", "1000")
		d.detach(t, "ends", nil, "sh", "-c", "while ! test -e /stop; do sleep 0.1; done; exit 6")
		d.ok(t, "task", "exec", "-d", "--exec-id", "stop", "ends", "sh", "-c", "sleep 2; touch /stop")
		exits := d.exitsForwarded(t)
		d.kill()
		shims := d.processes("containerd-shim-dougong-v2")
		if len(shims) != 2 {
			t.Errorf("%d sandbox processes are left", len(shims))
		}
		// The other task ends while nobody listens.
		eventually(t, "a task ends", func() bool { return len(d.processes("qemu-system")) == 1 })
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
		if s := d.status(t, "stays"); s != "RUNNING" {
			t.Errorf("status is %s", s)
		}
		if out := d.ok(t, "task", "exec", "--exec-id", "again", "stays", "echo", "hi"); out != "hi\n" {
			t.Errorf("exec gives %q", out)
		}
		if s := d.status(t, "ends"); s != "STOPPED" {
			t.Errorf("status of the other task is %s", s)
		}
		// The exits of the exec and of its init, and that of the later exec.
		eventually(t, "events of the time between", func() bool { return d.exitsForwarded(t) >= exits+3 })
		if r := d.ctr(t, "task", "rm", "ends"); r.code != 6 && !strings.Contains(r.err, "6") {
			t.Errorf("exit after the restart is %+v", r)
		}
		if diff := cmp.Diff(shims, d.processes("containerd-shim-dougong-v2")); len(shims) == 2 && !strings.Contains(diff, "-") {
			t.Errorf("the sandbox process of a deleted task stays:%s", diff)
		}
	})
}
