package qemu

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"dougong.dev/dougong/internal/qmp"
)

// exitOf is how a process ends that runs a shell script.
func exitOf(t *testing.T, script string) error {
	t.Helper()
	err := exec.Command("/bin/sh", "-c", script).Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return err
}

func TestEnding(t *testing.T) {
	failed, killed := exitOf(t, "exit 1"), exitOf(t, "kill -SYS $$")
	const panicked = "[    1.0] Kernel panic - not syncing: oops\n[    1.1] ---[ end Kernel panic - not syncing: oops ]---\n"
	for _, tc := range []struct {
		name string
		end  ending
		want string // in the text; empty for no error
	}{
		{"power-off", ending{shutdown: "guest-shutdown"}, ""},
		{"quit", ending{shutdown: "host-qmp-quit"}, ""},
		{"power-off, then killed", ending{shutdown: "guest-shutdown", process: killed}, ""},
		{"power-off after a panic that it survived", ending{shutdown: "guest-shutdown", console: panicked}, ""},
		{"reset", ending{shutdown: "guest-reset"}, "the guest reset itself"},
		{"panic", ending{shutdown: "guest-reset", console: panicked}, "the guest's kernel panicked: not syncing: oops; the console"},
		{"panic and no event", ending{console: panicked}, "kernel panicked: not syncing: oops"},
		{"reported panic", ending{panicked: true, shutdown: "guest-panic"}, "the guest's kernel panicked"},
		{"host's signal", ending{shutdown: "host-signal"}, "a signal of the host asked it to"},
		{"killed", ending{process: killed}, "SIGSYS (it made a system call that its filter forbids)"},
		{"failed", ending{process: failed, stderr: "qemu-system-x86_64: first\nqemu-system-x86_64: second\n"}, "QEMU ended: first; second"},
		{"failed mutely", ending{process: failed}, "QEMU ended: without a word (exit status 1)"},
		{"nothing seen", ending{}, "QEMU ended: without a word"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.end.machine = "m"
			err := tc.end.err(func(string) error { return nil })
			if tc.want == "" {
				if err != nil {
					t.Errorf("err = %v", err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "virtual machine m: ") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want …%s…", err, tc.want)
			}
		})
	}
}

func TestEndingKeepsTheCause(t *testing.T) {
	cause := errors.New("port in use")
	err := (&ending{process: exitOf(t, "exit 1"), stderr: "x"}).err(func(string) error { return cause })
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "port in use") {
		t.Errorf("err = %v", err)
	}
}

func TestExitErrorShowsOnlyTheLastLines(t *testing.T) {
	end := ending{process: exitOf(t, "kill -9 $$"), console: strings.Repeat("line\n", 100)}
	err := end.err(func(string) error { return nil })
	var x *ExitError
	if !errors.As(err, &x) || x.Signal != syscall.SIGKILL || len(x.Console) != consoleLines {
		t.Errorf("err = %#v", err)
	}
}

func FuzzEndingSee(f *testing.F) {
	f.Add("SHUTDOWN", `{"guest":true,"reason":"guest-reset"}`)
	f.Add("SHUTDOWN", `{"reason":7}`)
	f.Add("SHUTDOWN", ``)
	f.Add("GUEST_PANICKED", `{"action":"poweroff"}`)
	f.Fuzz(func(t *testing.T, name, data string) {
		end := &ending{}
		end.see(qmp.Event{Name: name, Data: json.RawMessage(data)})
		if name != "SHUTDOWN" && end.shutdown != "" {
			t.Errorf("%s made a shutdown", name)
		}
		_ = end.err(func(string) error { return nil })
	})
}
