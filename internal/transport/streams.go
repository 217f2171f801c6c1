package transport

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// maxUnclaimed bounds streams that were opened and that nobody waits for.
	maxUnclaimed = 1024
	// claimTimeout is how long a stream waits for somebody to claim it.
	claimTimeout = 2 * time.Minute
)

// Streams keeps the streams that the peer has opened until they are claimed
// by id.
type Streams struct {
	listener net.Listener
	wg       sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc

	mu      sync.Mutex
	pending map[string]*pending
}

// pending is an id that the peer has offered, that somebody awaits, or both.
type pending struct {
	offered, awaited bool
	// conn is set, and arrived closed, when the offer was acknowledged.
	conn    net.Conn
	arrived chan struct{}
	expiry  *time.Timer
}

// NewStreams serves stream connections of l, which it then owns.
func NewStreams(l net.Listener) *Streams {
	s := &Streams{listener: l, pending: make(map[string]*pending)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.serve)
	return s
}

// Close drops every stream nobody has claimed.
func (s *Streams) Close() error {
	err := s.listener.Close()
	s.wg.Wait()
	return err
}

// Wait claims the stream of the given id, waiting until the peer opens it or
// ctx ends. An id can be awaited once at a time, and used again afterwards.
func (s *Streams) Wait(ctx context.Context, id string) (net.Conn, error) {
	p, err := s.await(id)
	if err != nil {
		return nil, fmt.Errorf("wait for stream %q: %w", id, err)
	}
	select {
	case <-p.arrived:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-s.ctx.Done():
		err = ErrClosed
	}
	conn := s.settle(id, p, err == nil)
	if conn == nil {
		if err == nil {
			err = ErrClosed
		}
		return nil, fmt.Errorf("wait for stream %q: %w", id, err)
	}
	return conn, nil
}

// await marks id as awaited.
func (s *Streams) await(id string) (*pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.entry(id)
	if p.awaited {
		return nil, ErrStreamID
	}
	p.awaited = true
	return p, nil
}

// settle ends a wait; take says whether the stream, if here, is claimed.
func (s *Streams) settle(id string, p *pending, take bool) net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.awaited = false
	if take && p.conn != nil {
		p.expiry.Stop()
		delete(s.pending, id)
		return p.conn
	}
	if !p.offered {
		delete(s.pending, id)
	}
	return nil
}

// entry must be called with mu held.
func (s *Streams) entry(id string) *pending {
	p := s.pending[id]
	if p == nil {
		p = &pending{arrived: make(chan struct{})}
		s.pending[id] = p
	}
	return p
}

func (s *Streams) serve() {
	defer s.drop()
	handshakes := make(chan struct{}, maxHandshakes)
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		handshakes <- struct{}{}
		s.wg.Go(func() {
			defer func() { <-handshakes }()
			stop := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
			defer stop()
			if err := s.register(conn); err != nil {
				slog.Debug("stream turned away", "error", err)
				_ = conn.Close()
			}
		})
	}
}

func (s *Streams) drop() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.pending {
		if p.conn != nil {
			p.expiry.Stop()
			_ = p.conn.Close()
			p.conn = nil
		}
		delete(s.pending, id)
	}
}

// register reads the id of a new stream, says to the peer that it is kept,
// and keeps it. In this order, since whoever claims the stream may write.
func (s *Streams) register(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	id, err := readStreamID(conn)
	if err != nil {
		return err
	}
	if err := s.offer(id); err != nil {
		_, _ = conn.Write([]byte{verdictRefused})
		return fmt.Errorf("stream %q: %w", id, err)
	}
	_, err = conn.Write([]byte{verdictAccepted})
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		s.withdraw(id)
		return fmt.Errorf("acknowledge stream %q: %w", id, err)
	}
	return s.keep(id, conn)
}

func (s *Streams) offer(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) >= maxUnclaimed && s.pending[id] == nil {
		return fmt.Errorf("more than %d streams unclaimed: %w", maxUnclaimed, ErrRefused)
	}
	p := s.entry(id)
	if p.offered {
		return ErrStreamID
	}
	p.offered = true
	return nil
}

func (s *Streams) withdraw(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.entry(id)
	p.offered = false
	if !p.awaited {
		delete(s.pending, id)
	}
}

func (s *Streams) keep(id string, conn net.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	p := s.entry(id)
	p.conn = conn
	p.expiry = time.AfterFunc(claimTimeout, func() { s.expire(id, p) })
	close(p.arrived)
	return nil
}

func (s *Streams) expire(id string, p *pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending[id] != p || p.awaited || p.conn == nil {
		return
	}
	delete(s.pending, id)
	_ = p.conn.Close()
}
