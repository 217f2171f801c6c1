package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/fifo"
)

// Streams are this process's ends of a process in a container. Nil ends are
// not connected.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Attachment carries the streams of one process through FIFOs.
type Attachment struct {
	dir     string
	streams Streams
	stdin   io.WriteCloser
	readers []io.Closer
	output  sync.WaitGroup
	// broken is closed when nobody reads our own output any more.
	broken    chan struct{}
	breakOnce sync.Once
}

// Attach makes FIFOs in dir, which must not exist, and starts to carry what
// comes out of them. Its URIs go into the request that makes the process.
func Attach(ctx context.Context, dir string, s Streams) (*Attachment, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory for stdio: %w", err)
	}
	a := &Attachment{dir: dir, streams: s, broken: make(chan struct{})}
	if err := a.open(ctx); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Attachment) open(ctx context.Context) error {
	if a.streams.Stdin != nil {
		w, err := fifo.OpenFifo(ctx, a.path("stdin"), syscall.O_WRONLY|syscall.O_CREAT|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return fmt.Errorf("make FIFO: %w", err)
		}
		a.stdin = w
	}
	return errors.Join(a.carryOut(ctx, "stdout", a.streams.Stdout), a.carryOut(ctx, "stderr", a.streams.Stderr))
}

func (a *Attachment) path(name string) string { return filepath.Join(a.dir, name) }

func (a *Attachment) carryOut(ctx context.Context, name string, to io.Writer) error {
	if to == nil {
		return nil
	}
	r, err := fifo.OpenFifo(ctx, a.path(name), syscall.O_RDONLY|syscall.O_CREAT|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("make FIFO: %w", err)
	}
	a.readers = append(a.readers, r)
	a.output.Go(func() {
		if _, err := io.Copy(to, r); err != nil {
			a.breakOnce.Do(func() { close(a.broken) })
			// The process must be able to end, so its output is drained.
			_, _ = io.Copy(io.Discard, r)
		}
	})
	return nil
}

// URIs name the FIFOs.
func (a *Attachment) URIs() StdioURIs {
	var u StdioURIs
	if a.streams.Stdin != nil {
		u.Stdin = a.path("stdin")
	}
	if a.streams.Stdout != nil {
		u.Stdout = a.path("stdout")
	}
	if a.streams.Stderr != nil {
		u.Stderr = a.path("stderr")
	}
	return u
}

// CarryIn sends standard input to the process until it ends, and then its end.
func (a *Attachment) CarryIn(ctx context.Context, c *Client, id, execID string) {
	if a.stdin == nil {
		return
	}
	go func() {
		_, _ = io.Copy(a.stdin, a.streams.Stdin)
		_ = a.stdin.Close()
		// An error means that the process has ended already.
		_, _ = c.Task.CloseIO(ctx, &task.CloseIORequest{ID: id, ExecID: execID, Stdin: true})
	}()
}

// Broken is closed when output could not be handed on: who read it is gone.
func (a *Attachment) Broken() <-chan struct{} { return a.broken }

// Drain waits until all output of an ended process was handed over.
func (a *Attachment) Drain() { a.output.Wait() }

// Close removes the FIFOs.
func (a *Attachment) Close() {
	if a.stdin != nil {
		_ = a.stdin.Close()
	}
	for _, r := range a.readers {
		_ = r.Close()
	}
	_ = os.RemoveAll(a.dir)
}
