// Package stdio joins the standard streams of a process in the guest with
// streams of the host.
//
// It owns the pipes and terminals, the copying and its end. It must not know
// containers or runtimes, and one stream never waits for another.
package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// Spec names the streams of a process. An empty id stands for /dev/null.
type Spec struct {
	Stdin, Stdout, Stderr string
	// Terminal says that the process has a terminal, which is Stdin and Stdout.
	Terminal bool
}

// streams is where the host's connections are found by id.
type streams interface {
	Wait(ctx context.Context, id string) (net.Conn, error)
}

// Set is the standard streams of one process. It implements go-runc's IO.
type Set struct {
	spec   Spec
	input  net.Conn
	output [2]net.Conn // standard output, standard error

	child   []*os.File // ends of the process
	stdin   *input
	outputs []*output
	console *os.File
}

// Open claims the streams of spec, waiting for the host to connect them until
// ctx ends, and makes the pipes.
func Open(ctx context.Context, from streams, spec Spec) (*Set, error) {
	s := &Set{spec: spec}
	if spec.Terminal {
		s.spec.Stderr = ""
	}
	for _, claim := range []struct {
		id   string
		conn *net.Conn
	}{{s.spec.Stdin, &s.input}, {s.spec.Stdout, &s.output[0]}, {s.spec.Stderr, &s.output[1]}} {
		if claim.id == "" {
			continue
		}
		conn, err := from.Wait(ctx, claim.id)
		if err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("open standard streams: %w", err)
		}
		*claim.conn = conn
	}
	if err := s.pipes(); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("open standard streams: %w", err)
	}
	return s, nil
}

// pipes makes the three ends of the process: pipes for streams, /dev/null for
// the rest.
func (s *Set) pipes() error {
	if s.spec.Terminal {
		return nil
	}
	if s.input == nil {
		if err := s.null(os.O_RDONLY); err != nil {
			return err
		}
	} else {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		s.child = append(s.child, r)
		s.stdin = newInput(s.input, w)
	}
	for _, conn := range s.output {
		if conn == nil {
			if err := s.null(os.O_WRONLY); err != nil {
				return err
			}
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		widen(r)
		s.child = append(s.child, w)
		s.outputs = append(s.outputs, newOutput(conn, r))
	}
	return nil
}

// pipeSize is how much an output may run ahead of us, in bytes. To switch
// between a process and this one costs an emulated machine far more than the
// copying of what fits into a pipe of the usual size.
const pipeSize = 1 << 20

// widen makes a pipe larger. One that stays as it is works too.
func widen(pipe *os.File) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
}

func (s *Set) null(flag int) error {
	f, err := os.OpenFile(os.DevNull, flag, 0)
	if err != nil {
		return err
	}
	s.child = append(s.child, f)
	return nil
}

// Chown gives the pipes to the user the process runs as, so that it can open
// /dev/stdout anew.
func (s *Set) Chown(uid, gid int) error {
	for i, f := range s.child {
		if !s.isPipe(i) {
			continue
		}
		if err := f.Chown(uid, gid); err != nil {
			return fmt.Errorf("give standard stream %d to user %d: %w", i, uid, err)
		}
	}
	return nil
}

func (s *Set) isPipe(i int) bool {
	if i == 0 {
		return s.input != nil
	}
	return s.output[i-1] != nil
}

// Set hands the process's ends to a command.
func (s *Set) Set(cmd *exec.Cmd) {
	if len(s.child) < 3 {
		return
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.child[0], s.child[1], s.child[2]
}

// CloseAfterStart drops the process's ends, which the process now holds.
func (s *Set) CloseAfterStart() error {
	var errs []error
	for _, f := range s.child {
		errs = append(errs, f.Close())
	}
	s.child = nil
	return errors.Join(errs...)
}

// Stdin is nil, as are Stdout and Stderr: Set copies the streams itself.
func (s *Set) Stdin() io.WriteCloser { return nil }

// Stdout is nil.
func (s *Set) Stdout() io.ReadCloser { return nil }

// Stderr is nil.
func (s *Set) Stderr() io.ReadCloser { return nil }

// AttachConsole makes the master of the process's terminal the end that is
// copied. Set owns master from here on.
func (s *Set) AttachConsole(master *os.File) {
	s.console = master
	if s.input != nil {
		s.stdin = newInput(s.input, keepOpen{master})
	}
	// Without a stream of its own the output is dropped, but read: a process
	// must not block on a terminal nobody looks at.
	s.outputs = append(s.outputs, newOutput(s.output[0], master))
}

// Begin starts to copy. It is called once, with a console attached if there is
// to be one.
func (s *Set) Begin() {
	if s.stdin != nil {
		go s.stdin.copy()
	}
	for _, o := range s.outputs {
		go o.copy()
	}
}

// Resize sets the size of the terminal, in characters.
func (s *Set) Resize(width, height uint32) error {
	if s.console == nil {
		return errors.New("the process has no terminal")
	}
	size := unix.Winsize{Col: uint16(width), Row: uint16(height)}
	raw, err := s.console.SyscallConn()
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &size) })
	if err = errors.Join(cerr, err); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// CloseStdin ends the process's standard input at once. Hosts that end the
// stream in band need it not.
func (s *Set) CloseStdin() {
	if s.stdin != nil {
		s.stdin.end()
	}
}

// Drain is called when the process is dead, and returns when its output was
// handed to the streams, or the host does not read it. Output that others write
// to the same pipes counts until grace is over.
func (s *Set) Drain(grace time.Duration) {
	for _, o := range s.outputs {
		o.expire(grace)
	}
	for _, o := range s.outputs {
		o.await(stuck)
	}
}

// Close drops what is left: streams that were never begun and terminals. It
// does not cut off output that the host still reads.
func (s *Set) Close() error {
	_ = s.CloseAfterStart()
	if s.stdin != nil {
		s.stdin.end()
	}
	if s.input != nil {
		_ = s.input.Close()
	}
	if s.console != nil {
		_ = s.console.Close()
	}
	for i, conn := range s.output {
		if conn != nil && !s.begun(i) {
			_ = conn.Close()
		}
	}
	for _, o := range s.outputs {
		_ = o.from.Close()
	}
	return nil
}

// begun says whether an output was copied, so that its end closes it.
func (s *Set) begun(i int) bool {
	for _, o := range s.outputs {
		if o.conn == s.output[i] && o.started.Load() {
			return true
		}
	}
	return false
}

// keepOpen is a terminal as an input: the end of the input is not the end of
// the terminal.
type keepOpen struct{ *os.File }

func (keepOpen) Close() error { return nil }
