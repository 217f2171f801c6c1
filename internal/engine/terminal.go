package engine

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Terminal is this process's terminal in raw mode.
type Terminal struct {
	fd  int
	old *term.State
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// RawTerminal puts the terminal that f is into raw mode. Output is not
// processed either: the terminal in the guest has done that.
func RawTerminal(f *os.File) (*Terminal, error) {
	fd := int(f.Fd())
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("put the terminal into raw mode: %w", err)
	}
	return &Terminal{fd: fd, old: old}, nil
}

// TerminalSize is the size of the terminal that f is, nil when it is none.
func TerminalSize(f *os.File) *specs.Box {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	return &specs.Box{Height: uint(size.Row), Width: uint(size.Col)}
}

// Restore gives the terminal its old mode back.
func (t *Terminal) Restore() {
	if t != nil {
		_ = term.Restore(t.fd, t.old)
	}
}

// FollowSize keeps the size of a process's terminal like ours until ctx ends.
func (t *Terminal) FollowSize(ctx context.Context, c *Client, id, execID string) {
	t.resize(ctx, c, id, execID)
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, unix.SIGWINCH)
	go func() {
		defer signal.Stop(changes)
		for {
			select {
			case <-changes:
				t.resize(ctx, c, id, execID)
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (t *Terminal) resize(ctx context.Context, c *Client, id, execID string) {
	width, height, err := term.GetSize(t.fd)
	if err != nil {
		return
	}
	// A process that has just ended has no terminal to resize.
	_, _ = c.Task.ResizePty(ctx, &task.ResizePtyRequest{ID: id, ExecID: execID, Width: uint32(width), Height: uint32(height)})
}

// notForwarded are signals that concern this process itself.
var notForwarded = map[os.Signal]bool{
	unix.SIGCHLD: true, unix.SIGPIPE: true, unix.SIGURG: true, unix.SIGWINCH: true,
	unix.SIGTTIN: true, unix.SIGTTOU: true, unix.SIGTSTP: true, unix.SIGCONT: true,
}

// ForwardSignals sends every signal this process gets to a process in the
// sandbox, from the call on until the returned function is called.
func ForwardSignals(ctx context.Context, c *Client, id, execID string) (stop func()) {
	signals := make(chan os.Signal, 32)
	signal.Notify(signals)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				number, ok := s.(unix.Signal)
				if !ok || notForwarded[s] {
					continue
				}
				_, _ = c.Task.Kill(ctx, &task.KillRequest{ID: id, ExecID: execID, Signal: uint32(number)})
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}
