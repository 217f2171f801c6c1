package transport

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// acceptBacklog bounds connections that wait in one listener.
	acceptBacklog = 64
	// maxHandshakes bounds inbound connections whose header is still awaited.
	maxHandshakes = 64
	// maxDials bounds outbound connections that wait for the peer's verdict.
	maxDials = 128
	// handshakeTimeout is what a peer gets to send its five header bytes. It is
	// long because a guest without hardware virtualization can be slow.
	handshakeTimeout = 30 * time.Second
)

// link is what differs between the transports: raw connections to and from
// one peer.
type link interface {
	// open connects to the peer, waiting for it until ctx ends.
	open(ctx context.Context) (net.Conn, error)
	// accept returns the next connection of the peer, and an error once the
	// link has ended.
	accept() (net.Conn, error)
	// done is closed when the link has ended.
	done() <-chan struct{}
	close() error
}

// session makes ports out of a link.
type session struct {
	link       link
	dials      chan struct{}
	handshakes chan struct{}
	wg         sync.WaitGroup
	// ctx ends with the link.
	ctx    context.Context
	cancel context.CancelFunc

	mu        sync.Mutex
	listeners map[uint32]*listener
	ended     bool
}

func newSession(l link) *session {
	s := &session{
		link:       l,
		dials:      make(chan struct{}, maxDials),
		handshakes: make(chan struct{}, maxHandshakes),
		listeners:  make(map[uint32]*listener),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.acceptLoop)
	return s
}

func (s *session) Done() <-chan struct{} { return s.link.done() }

func (s *session) Close() error {
	err := s.link.close()
	s.wg.Wait()
	return err
}

// Dial implements Session.
func (s *session) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	select {
	case s.dials <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("dial port %d: %w", port, context.Cause(ctx))
	case <-s.Done():
		return nil, fmt.Errorf("dial port %d: %w", port, ErrClosed)
	}
	conn, err := s.dialAside(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("dial port %d: %w", port, s.explain(ctx, err))
	}
	return conn, nil
}

// dialAside dials in a goroutine of its own, which outlives ctx when the peer
// has stopped reading: a write that waits for the line knows no context.
func (s *session) dialAside(ctx context.Context, port uint32) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	dialed := make(chan result)
	go func() {
		defer func() { <-s.dials }()
		conn, err := s.dial(ctx, port)
		select {
		case dialed <- result{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				_ = conn.Close()
			}
		}
	}()
	select {
	case r := <-dialed:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// explain says why a connection failed: the reason of the caller or the end
// of the session rather than what they did to the connection.
func (s *session) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-s.Done():
		return ErrClosed
	default:
		return err
	}
}

func (s *session) dial(ctx context.Context, port uint32) (net.Conn, error) {
	conn, err := s.link.open(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	_, err = conn.Write(appendHeader(nil, port))
	if err == nil {
		err = readVerdict(conn)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (s *session) acceptLoop() {
	defer s.end()
	for {
		conn, err := s.link.accept()
		if err != nil {
			slog.Debug("transport ended", "error", err)
			return
		}
		select {
		case s.handshakes <- struct{}{}:
			s.wg.Go(func() {
				defer func() { <-s.handshakes }()
				s.welcome(conn)
			})
		default:
			_ = conn.Close()
		}
	}
}

// welcome reads the header of an inbound connection and hands it to the
// listener of its port.
func (s *session) welcome(conn net.Conn) {
	stop := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	defer stop()
	if err := s.deliver(conn); err != nil {
		slog.Debug("transport turned a connection away", "error", err)
		_ = conn.Close()
	}
}

func (s *session) deliver(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	port, err := readHeader(conn)
	if err != nil {
		return err
	}
	l := s.listener(port)
	if l == nil || !l.reserve() {
		_, _ = conn.Write([]byte{verdictRefused})
		return fmt.Errorf("port %d: %w", port, ErrRefused)
	}
	if _, err := conn.Write([]byte{verdictAccepted}); err != nil {
		l.release()
		return fmt.Errorf("write verdict: %w", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		l.release()
		return fmt.Errorf("clear deadline: %w", err)
	}
	return l.put(conn)
}

func (s *session) listener(port uint32) *listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listeners[port]
}

// Listen implements Session.
func (s *session) Listen(port uint32) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, fmt.Errorf("listen on port %d: %w", port, ErrClosed)
	}
	if s.listeners[port] != nil {
		return nil, fmt.Errorf("listen on port %d: %w", port, os.ErrExist)
	}
	l := newListener(port, func() { s.forget(port) })
	s.listeners[port] = l
	return l, nil
}

func (s *session) forget(port uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, port)
}

// end closes every listener once the link has ended.
func (s *session) end() {
	s.cancel()
	s.mu.Lock()
	s.ended = true
	var all []*listener
	for _, l := range s.listeners {
		all = append(all, l)
	}
	s.mu.Unlock()
	for _, l := range all {
		l.shut(ErrClosed)
	}
}
