package engine

import (
	"context"
	"os"
	"testing"

	"github.com/containerd/console"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// pty is a pair of terminal and what is on the other side of it.
func pty(t *testing.T) (outer console.Console, inner *os.File) {
	t.Helper()
	outer, path, err := console.NewPty()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { outer.Close() })
	inner, err = os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close() })
	return outer, inner
}

func mode(t *testing.T, f *os.File) *unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRawAndBack(t *testing.T) {
	_, inner := pty(t)
	if !IsTerminal(inner) {
		t.Error("a terminal is not known as one")
	}
	before := mode(t, inner)
	terminal, err := RawTerminal(inner)
	if err != nil {
		t.Fatal(err)
	}
	if m := mode(t, inner); m.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Errorf("in raw mode the terminal still edits, echoes or sends signals: %#x", m.Lflag)
	}
	terminal.Restore()
	if diff := cmp.Diff(before, mode(t, inner)); diff != "" {
		t.Errorf("the old mode is not back (-want +got):\n%s", diff)
	}
	(*Terminal)(nil).Restore()
}

func TestFollowSize(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreAnyFunction("os/signal.loop"))
	outer, inner := pty(t)
	if err := outer.Resize(console.WinSize{Width: 100, Height: 30}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&specs.Box{Width: 100, Height: 30}, TerminalSize(inner)); diff != "" {
		t.Errorf("size (-want +got):\n%s", diff)
	}
	terminal, err := RawTerminal(inner)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Restore()
	fake := newFakeTask()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	terminal.FollowSize(ctx, &Client{Task: fake}, "c1", "e1")
	if r := await(t, fake.resized, "first size"); r.ID != "c1" || r.ExecID != "e1" || r.Width != 100 || r.Height != 30 {
		t.Errorf("size is %v", r)
	}
	if err := outer.Resize(console.WinSize{Width: 80, Height: 24}); err != nil {
		t.Fatal(err)
	}
	// It is not our controlling terminal, so the kernel does not tell us.
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	if r := await(t, fake.resized, "second size"); r.Width != 80 || r.Height != 24 {
		t.Errorf("new size is %v", r)
	}
}

func TestNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if IsTerminal(r) || TerminalSize(r) != nil {
		t.Error("a pipe is a terminal")
	}
	if _, err := RawTerminal(r); err == nil {
		t.Error("a pipe can be put into raw mode")
	}
}

func TestForwardSignals(t *testing.T) {
	fake := newFakeTask()
	stop := ForwardSignals(t.Context(), &Client{Task: fake}, "c1", "e1")
	defer stop()
	// The ones that concern us alone come first and must be passed over.
	for _, s := range []unix.Signal{unix.SIGCHLD, unix.SIGWINCH, unix.SIGURG, unix.SIGUSR1} {
		if err := unix.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	if r := await(t, fake.killed, "signal"); r.ID != "c1" || r.ExecID != "e1" || r.Signal != uint32(unix.SIGUSR1) || r.All {
		t.Errorf("forwarded is %v, want SIGUSR1", r)
	}
}
