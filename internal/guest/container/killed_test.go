package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// suicide is a runtime that logs a line and dies by a signal.
const suicide = `#!/bin/sh
while [ "$1" != --log ]; do shift; done
[ -z "$WORDS" ] || echo "$WORDS" >"$2"
kill -%s $$
`

// TestKilledRuntime wants the signal, and what was logged before.
func TestKilledRuntime(t *testing.T) {
	g := newGuest(t)
	for signal, words := range map[string]string{"SEGV": "", "TERM": "about to mount"} {
		program := filepath.Join(g.dir, "runtime-"+signal)
		if err := os.WriteFile(program, fmt.Appendf(nil, suicide, signal), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("WORDS", words)
		g.service.config.Binary = program
		c := g.newTask("killed-"+signal, "", false, false)
		err := c.create(g.bundle("killed-"+signal, nil, "true"))
		want := "run the container runtime: " + program + " was killed by SIG" + signal
		if words != "" {
			want += "; it last logged: " + words
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("create ends with %v, want %s", err, want)
		}
	}
}

func TestCommandError(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, []byte("first\nlast\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	late, cancel := context.WithCancelCause(t.Context())
	cancel(errCommandTime)
	killed := func(signal unix.Signal) error {
		return fmt.Errorf("run: %w", &killedError{program: "crun", signal: signal, kernel: "crun[7]: segfault at 0"})
	}
	for name, tt := range map[string]struct {
		ctx  context.Context
		err  error
		log  string
		want string
	}{
		"printed":  {t.Context(), errors.New("exit status 1"), "none", "run the container runtime: exit status 1"},
		"logged":   {t.Context(), errors.New("exit status 1"), log, "last"},
		"killed":   {t.Context(), killed(unix.SIGSEGV), "none", "run the container runtime: run: crun was killed by SIGSEGV; the guest's kernel says: crun[7]: segfault at 0"},
		"by us":    {late, killed(unix.SIGKILL), log, "by the guest's clock; it last logged: last"},
		"late too": {late, killed(unix.SIGSEGV), "none", "segfault at 0"},
	} {
		if got := commandError(tt.ctx, tt.err, tt.log, "true", "/").Error(); !strings.HasSuffix(got, tt.want) {
			t.Errorf("%s: %q, want …%q", name, got, tt.want)
		}
	}
}

func TestKernelOn(t *testing.T) {
	const log = `<6>[    0.000000] Linux version 6.1
<6>[    9.000001] crun[12]: segfault at 10 ip 0000000000401000 sp 00007ffe error 4 in crun[400000+1000]
<4>[   10.000000] crun[123]: segfault at 20 ip 0
[   11.000000] Out of memory: Killed process 13 (crun) total-vm:8kB
`
	for pid, want := range map[int]string{
		12: "crun[12]: segfault at 10 ip 0000000000401000 sp 00007ffe error 4 in crun[400000+1000]",
		13: "Out of memory: Killed process 13 (crun) total-vm:8kB",
		2:  "",
	} {
		if got := kernelOn(pid, log); got != want {
			t.Errorf("of process %d the kernel says %q, want %q", pid, got, want)
		}
	}
}
