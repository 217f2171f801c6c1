package engine

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Session is one process in a container together with our ends of its stdio.
type Session struct {
	Client     *Client
	ID, ExecID string
	// FIFOs is a directory below which those of this session are made.
	FIFOs string
	// Interactive connects Stdin, Terminal says that the process has a
	// terminal; with both, Stdin must be one and is put into raw mode.
	Interactive, Terminal bool
	Stdin                 *os.File
	Stdout, Stderr        io.Writer

	attachment *Attachment
	terminal   *Terminal
	gate       *gate
}

// gate holds output back until the terminal that it goes to is in raw mode: in
// any other, line ends would be translated a second time.
type gate struct {
	to     io.Writer
	opened chan struct{}
	once   sync.Once
}

func newGate(to io.Writer) *gate { return &gate{to: to, opened: make(chan struct{})} }

func (g *gate) open() {
	if g != nil {
		g.once.Do(func() { close(g.opened) })
	}
}

// Write implements io.Writer.
func (g *gate) Write(p []byte) (int, error) {
	<-g.opened
	return g.to.Write(p)
}

// Attach connects stdio, before the process is made.
func (s *Session) Attach(ctx context.Context) (StdioURIs, error) {
	if s.Interactive && s.Terminal && !IsTerminal(s.Stdin) {
		return StdioURIs{}, fmt.Errorf("the input is not a terminal, so -t cannot be used with -i here: %w", errdefs.ErrInvalidArgument)
	}
	streams := Streams{Stdout: s.Stdout, Stderr: s.Stderr}
	if s.Interactive {
		streams.Stdin = s.Stdin
	}
	if s.Terminal {
		streams.Stderr = nil
	}
	if s.Interactive && s.Terminal && s.Stdout != nil {
		s.gate = newGate(s.Stdout)
		streams.Stdout = s.gate
	}
	name := s.ExecID
	if name == "" {
		name = "init"
	}
	var err error
	s.attachment, err = Attach(ctx, filepath.Join(s.FIFOs, name), streams)
	if err != nil {
		s.Close()
		return StdioURIs{}, err
	}
	return s.attachment.URIs(), nil
}

// Follow forwards input, signals and the terminal's size to the process that
// was just started, until it has ended, and returns its exit status.
func (s *Session) Follow(ctx context.Context) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Only now: until here Ctrl-C ends this process.
	if s.Interactive && s.Terminal {
		terminal, err := RawTerminal(s.Stdin)
		if err != nil {
			return 0, err
		}
		s.terminal = terminal
		s.gate.open()
		s.terminal.FollowSize(ctx, s.Client, s.ID, s.ExecID)
	}
	s.attachment.CarryIn(ctx, s.Client, s.ID, s.ExecID)
	go s.breakPipe(ctx)
	status, err := s.Client.Wait(ctx, s.ID, s.ExecID)
	if err != nil {
		return 0, err
	}
	s.attachment.Drain()
	return status, nil
}

// breakPipe ends the process when nobody reads its output any more. A pipe
// would have done that to it; the FIFOs between us hide it.
func (s *Session) breakPipe(ctx context.Context) {
	select {
	case <-s.attachment.Broken():
		_, _ = s.Client.Task.Kill(ctx, &task.KillRequest{ID: s.ID, ExecID: s.ExecID, Signal: uint32(unix.SIGKILL)})
	case <-ctx.Done():
	}
}

// Close restores the terminal and removes the FIFOs.
func (s *Session) Close() {
	s.gate.open()
	s.terminal.Restore()
	if s.attachment != nil {
		s.attachment.Close()
	}
}

// Exec runs a process in a running container; its exit status comes back as
// an ExitError. With detach nobody waits for it.
func (s *Session) Exec(ctx context.Context, spec *specs.Process, detach bool) error {
	spec.Terminal = s.Terminal
	if s.Terminal && s.Interactive {
		// From the start: a later resize may come after it was asked for.
		spec.ConsoleSize = TerminalSize(s.Stdin)
	}
	uris, err := s.Attach(ctx)
	if err != nil {
		return EngineError(err)
	}
	defer s.Close()
	if err := s.Client.Exec(ctx, s.ID, s.ExecID, spec, uris); err != nil {
		return CommandError(err)
	}
	stop := ForwardSignals(ctx, s.Client, s.ID, s.ExecID)
	defer stop()
	if err := s.Client.StartExec(ctx, s.ID, s.ExecID); err != nil {
		return CommandError(err)
	}
	if detach {
		return nil
	}
	status, err := s.Follow(ctx)
	if err != nil {
		if s.Client.lost(err) {
			err = fmt.Errorf("the container %s went away while the command ran in it: its sandbox process has ended", s.ID[:min(12, len(s.ID))])
		}
		return EngineError(err)
	}
	// The process is over; what remains of it goes with the container.
	_ = s.Client.DeleteExec(ctx, s.ID, s.ExecID)
	if status != 0 {
		return &ExitError{Code: status}
	}
	return nil
}
