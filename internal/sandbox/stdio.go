package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/transport"
)

// Stdio are the host's ends of a process's standard streams. Nil ends are
// not connected. With a terminal, Stdout carries everything.
type Stdio struct {
	Stdin          io.ReadCloser
	Stdout, Stderr io.WriteCloser
	// EndInput makes Stdin report its end once it is drained.
	EndInput func()
}

// Close closes every end.
func (s Stdio) Close() {
	if s.EndInput != nil {
		s.EndInput()
	}
	if s.Stdin != nil {
		_ = s.Stdin.Close()
	}
	if s.Stdout != nil {
		_ = s.Stdout.Close()
	}
	if s.Stderr != nil {
		_ = s.Stderr.Close()
	}
}

// streamIDs name the streams to the guest; empty ones are not connected.
type streamIDs struct{ stdin, stdout, stderr string }

// streams are the connections of one process.
type streams struct {
	stdin, stdout, stderr net.Conn
	once                  sync.Once
}

func (s *streams) close() {
	s.once.Do(func() {
		for _, conn := range []net.Conn{s.stdin, s.stdout, s.stderr} {
			if conn != nil {
				_ = conn.Close()
			}
		}
	})
}

// openStreams connects every stream that has a host end.
func (p *Process) openStreams(ctx context.Context) (streamIDs, error) {
	var ids streamIDs
	open := func(wanted bool, name string, id *string, conn *net.Conn) error {
		if !wanted {
			return nil
		}
		*id = fmt.Sprintf("%s/%s/%s", p.c.ID, p.execID, name)
		var err error
		*conn, err = p.c.sandbox.client.OpenStream(ctx, *id)
		return err
	}
	err := open(p.stdio.Stdin != nil, "stdin", &ids.stdin, &p.streams.stdin)
	if err == nil {
		err = open(p.stdio.Stdout != nil, "stdout", &ids.stdout, &p.streams.stdout)
	}
	if err == nil {
		err = open(p.stdio.Stderr != nil && !p.Terminal, "stderr", &ids.stderr, &p.streams.stderr)
	}
	if err != nil {
		p.streams.close()
		err = fmt.Errorf("connect stdio of %s: %w", p.life.what, err)
		if errors.Is(err, transport.ErrClosed) {
			// The sandbox's end says more, and is not known yet.
			err = fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
		}
		return ids, err
	}
	return ids, nil
}

// carry copies from the streams to the host's ends, each by itself, so that a
// slow reader of one holds up nothing else. Input is carried once the process
// runs.
func (p *Process) carry() {
	if p.streams.stdout != nil {
		p.output.Go(func() { p.carryOutput("stdout", p.stdio.Stdout, p.streams.stdout) })
	}
	if p.streams.stderr != nil {
		p.output.Go(func() { p.carryOutput("stderr", p.stdio.Stderr, p.streams.stderr) })
	}
}

func (p *Process) carryInput() {
	if p.streams.stdin == nil {
		return
	}
	w := transport.NewStreamWriter(p.streams.stdin)
	if _, err := io.CopyBuffer(onlyWriter{w}, p.stdio.Stdin, make([]byte, copyBuffer)); err != nil {
		slog.Debug("standard input ended", "process", p.life.what, "error", err)
	}
	// The end of input goes in band; the connection stays for the guest to close.
	_ = w.Close()
}

func (p *Process) carryOutput(name string, to io.WriteCloser, from net.Conn) {
	watched := transport.NewWatched(to)
	p.watch(watched)
	_, err := io.CopyBuffer(onlyWriter{watched}, transport.NewStreamReader(from), make([]byte, copyBuffer))
	if err != nil {
		slog.Debug("output ended early", "process", p.life.what, "stream", name, "error", err)
	}
	_ = to.Close()
	// The guest holds its end open until ours is closed: then it knows that
	// nothing is on the way any more.
	_ = from.Close()
}

func (p *Process) watch(w *transport.Watched) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watched = append(p.watched, w)
}

// hopeless reports whether output is waited for in vain: since a reader takes
// nothing, if only before start, or since the guest sends none of it after.
func (p *Process) hopeless(start time.Time, limit time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := true
	for _, w := range p.watched {
		if w.Stuck(limit) {
			return true
		}
		idle = idle && w.Idle(start, limit)
	}
	return idle && time.Since(start) > limit
}

// copyBuffer is as much as one frame carries, in bytes.
const copyBuffer = 128 << 10

// onlyWriter hides ReadFrom, which would bypass the buffer's size.
type onlyWriter struct{ io.Writer }
