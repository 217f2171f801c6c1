package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	// muxWindow is how much of one connection is in flight, and so what a
	// reader that does not read must hold. With 256 KiB an emulated guest
	// waits for the host's word so often that its output is a fifth slower;
	// 4 MiB bring nothing more.
	muxWindow = 1 << 20
	// muxWriteTimeout ends writes to a line nobody reads. A guest that is
	// paused does not read, so it is no sign of a fault: the owner of the
	// virtual machine ends the session.
	muxWriteTimeout = 24 * time.Hour
	// muxCloseTimeout is how long a closed connection waits for the peer to
	// close it too before it is reset.
	muxCloseTimeout = 30 * time.Second
)

// NewHost starts the host's end of a session multiplexed over conn, which it
// then owns. The guest need not be there yet: what is sent waits in conn.
func NewHost(conn io.ReadWriteCloser) Session {
	return newMux(conn, yamux.Client)
}

// NewGuest starts the guest's end of a session multiplexed over conn, which
// it then owns.
func NewGuest(conn io.ReadWriteCloser) Session {
	return newMux(conn, yamux.Server)
}

func newMux(conn io.ReadWriteCloser, end func(io.ReadWriteCloser, *yamux.Config) (*yamux.Session, error)) Session {
	guard := &guard{ReadWriteCloser: conn}
	mux, err := end(guard, muxConfig())
	if err != nil {
		// Only a wrong configuration gets here, and that one is fixed.
		_ = conn.Close()
		return newSession(closedLink{err: err})
	}
	l := &muxLink{mux: mux}
	guard.inbound.Store(l)
	return newSession(l)
}

func muxConfig() *yamux.Config {
	return &yamux.Config{
		AcceptBacklog:          maxDials,
		KeepAliveInterval:      time.Hour,
		ConnectionWriteTimeout: muxWriteTimeout,
		MaxStreamWindowSize:    muxWindow,
		StreamCloseTimeout:     muxCloseTimeout,
		Logger:                 muxLogger{},
	}
}

// muxLogger takes yamux's remarks on what the peer sends, which are of use
// only to a developer.
type muxLogger struct{}

func (muxLogger) Print(v ...any)                 { slog.Debug(strings.TrimSpace(fmt.Sprint(v...))) }
func (muxLogger) Println(v ...any)               { slog.Debug(strings.TrimSpace(fmt.Sprintln(v...))) }
func (muxLogger) Printf(format string, v ...any) { slog.Debug(fmt.Sprintf(format, v...)) }

// muxLink is one yamux session.
type muxLink struct {
	mux *yamux.Session
	// dialed counts connections opened from this end that are not closed.
	dialed atomic.Int64
}

// foreign is the number of connections that the peer opened and that still
// cost memory here.
func (l *muxLink) foreign() int64 {
	return int64(l.mux.NumStreams()) - l.dialed.Load()
}

func (l *muxLink) done() <-chan struct{} { return l.mux.CloseChan() }
func (l *muxLink) close() error          { return l.mux.Close() }

func (l *muxLink) accept() (net.Conn, error) {
	stream, err := l.mux.AcceptStream()
	if err != nil {
		return nil, err
	}
	return &muxConn{stream: stream}, nil
}

func (l *muxLink) open(context.Context) (net.Conn, error) {
	l.dialed.Add(1)
	stream, err := l.mux.OpenStream()
	if err != nil {
		l.dialed.Add(-1)
		return nil, err
	}
	return &muxConn{stream: stream, closed: func() { l.dialed.Add(-1) }}, nil
}

// muxConn gives a yamux stream the manners of a net.Conn: Close ends pending
// and later reads and writes, and deadlines are reported as such.
type muxConn struct {
	stream *yamux.Stream
	closed func()
	once   sync.Once
	shut   atomic.Bool
}

func (c *muxConn) Read(p []byte) (int, error) {
	if c.shut.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.stream.Read(p)
	return n, c.explain(err)
}

func (c *muxConn) Write(p []byte) (int, error) {
	if c.shut.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.stream.Write(p)
	return n, c.explain(err)
}

func (c *muxConn) explain(err error) error {
	switch {
	case err == nil || err == io.EOF && !c.shut.Load(): //nolint:errorlint // Read must return io.EOF itself.
		return err
	case c.shut.Load():
		return net.ErrClosed
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	case errors.Is(err, yamux.ErrSessionShutdown):
		return ErrClosed
	default:
		return err
	}
}

// Close never waits for the peer, not even for one that has stopped reading.
// Bytes that were written before stay readable at the peer for
// muxCloseTimeout; a protocol that must not lose bytes to a slower reader
// waits for the reader to close first.
func (c *muxConn) Close() error {
	c.once.Do(func() {
		c.shut.Store(true)
		_ = c.stream.SetDeadline(time.Unix(1, 0))
		go func() { _ = c.stream.Close() }()
		if c.closed != nil {
			c.closed()
		}
	})
	return nil
}

func (c *muxConn) LocalAddr() net.Addr                { return addr(c.stream.StreamID()) }
func (c *muxConn) RemoteAddr() net.Addr               { return addr(c.stream.StreamID()) }
func (c *muxConn) SetDeadline(t time.Time) error      { return c.set(t, c.stream.SetDeadline) }
func (c *muxConn) SetReadDeadline(t time.Time) error  { return c.set(t, c.stream.SetReadDeadline) }
func (c *muxConn) SetWriteDeadline(t time.Time) error { return c.set(t, c.stream.SetWriteDeadline) }

func (c *muxConn) set(t time.Time, set func(time.Time) error) error {
	if c.shut.Load() {
		return net.ErrClosed
	}
	return set(t)
}

// closedLink is a link that never was.
type closedLink struct{ err error }

func (l closedLink) open(context.Context) (net.Conn, error) { return nil, l.err }
func (l closedLink) accept() (net.Conn, error)              { return nil, l.err }
func (l closedLink) close() error                           { return nil }

func (l closedLink) done() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
