package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
)

// guestVsockPort is where the guest listens. The host listens on the port
// whose number is the guest's context id, so that any number of sessions
// share one host. The ports of a Session are told apart by the connection
// header, as on the other transport.
const guestVsockPort uint32 = 1024

// vsockRetry is how often a peer that does not listen yet is tried. The
// address family has no way to wait for a listener.
const vsockRetry = 20 * time.Millisecond

// NewVsockHost starts the host's end of a session with the guest of the given
// context id. Every process of the host can reach the guest by this transport,
// so it is for hosts whose users trust each other.
func NewVsockHost(cid uint32) (Session, error) {
	return newVsock(systemVsock, vsockEnd{peer: cid, peerPort: guestVsockPort, local: vsock.Host, localPort: cid})
}

// NewVsockGuest starts the guest's end of a session with its host.
// Connections that do not come from the host are dropped.
func NewVsockGuest() (Session, error) {
	cid, err := vsock.ContextID()
	if err != nil {
		return nil, fmt.Errorf("read own vsock context id: %w", err)
	}
	return newVsock(systemVsock, vsockEnd{peer: vsock.Host, peerPort: cid, local: cid, localPort: guestVsockPort})
}

// vsockEnd is who connects to whom.
type vsockEnd struct{ peer, peerPort, local, localPort uint32 }

// vsockFamily is the address family, exchanged in tests.
type vsockFamily struct {
	dial   func(ctx context.Context, cid, port uint32) (net.Conn, error)
	listen func(cid, port uint32) (net.Listener, error)
}

var systemVsock = vsockFamily{
	dial: func(ctx context.Context, cid, port uint32) (net.Conn, error) {
		return vsock.DialContext(ctx, cid, port, nil)
	},
	listen: func(cid, port uint32) (net.Listener, error) {
		return vsock.ListenContextID(cid, port, nil)
	},
}

func newVsock(family vsockFamily, end vsockEnd) (Session, error) {
	l, err := family.listen(end.local, end.localPort)
	if err != nil {
		return nil, fmt.Errorf("listen on vsock %d:%d: %w", end.local, end.localPort, err)
	}
	return newSession(&vsockLink{family: family, end: end, listener: l, ended: make(chan struct{})}), nil
}

// vsockLink is one peer reached by vsock. It has no connection of its own, so
// it ends only by close.
type vsockLink struct {
	family   vsockFamily
	end      vsockEnd
	listener net.Listener
	once     sync.Once
	ended    chan struct{}
	conns    connSet
}

func (l *vsockLink) done() <-chan struct{} { return l.ended }

func (l *vsockLink) close() error {
	var err error
	l.once.Do(func() {
		close(l.ended)
		err = l.listener.Close()
		l.conns.closeAll()
	})
	return err
}

// open tries until somebody listens at the peer.
func (l *vsockLink) open(ctx context.Context) (net.Conn, error) {
	tick := time.NewTicker(vsockRetry)
	defer tick.Stop()
	for {
		conn, err := l.family.dial(ctx, l.end.peer, l.end.peerPort)
		if err == nil {
			return l.conns.add(conn)
		}
		if !notYetThere(err) {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-l.ended:
			return nil, ErrClosed
		}
	}
}

func notYetThere(err error) bool {
	for _, e := range []error{unix.ECONNREFUSED, unix.ECONNRESET, unix.ENODEV, unix.ETIMEDOUT, unix.EHOSTUNREACH} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (l *vsockLink) accept() (net.Conn, error) {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			_ = l.close()
			return nil, err
		}
		if a, ok := conn.RemoteAddr().(*vsock.Addr); ok && a.ContextID == l.end.peer {
			return l.conns.add(conn)
		}
		slog.Debug("vsock connection of a stranger dropped", "from", conn.RemoteAddr())
		_ = conn.Close()
	}
}

// connSet are the open connections of a link, which end with it.
type connSet struct {
	mu    sync.Mutex
	conns map[*setConn]struct{}
	ended bool
}

type setConn struct {
	net.Conn
	set *connSet
}

func (s *connSet) add(conn net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		_ = conn.Close()
		return nil, ErrClosed
	}
	if s.conns == nil {
		s.conns = make(map[*setConn]struct{})
	}
	c := &setConn{Conn: conn, set: s}
	s.conns[c] = struct{}{}
	return c, nil
}

func (s *connSet) closeAll() {
	s.mu.Lock()
	s.ended = true
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close()
	}
}

func (c *setConn) Close() error {
	c.set.mu.Lock()
	delete(c.set.conns, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}
