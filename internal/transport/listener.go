package transport

import (
	"fmt"
	"net"
	"sync"
)

// addr is the address of both ends of a connection and of a listener.
type addr uint32

func (addr) Network() string  { return "dougong" }
func (a addr) String() string { return fmt.Sprintf("port %d", uint32(a)) }

// listener hands out the connections to one port of a session.
type listener struct {
	port   uint32
	forget func()
	conns  chan net.Conn
	// slots are taken before a connection is accepted, so that conns never
	// blocks the session.
	slots chan struct{}
	ended chan struct{}

	mu  sync.Mutex
	err error
}

func newListener(port uint32, forget func()) *listener {
	return &listener{
		port:   port,
		forget: forget,
		conns:  make(chan net.Conn, acceptBacklog),
		slots:  make(chan struct{}, acceptBacklog),
		ended:  make(chan struct{}),
	}
}

func (l *listener) reserve() bool {
	select {
	case l.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l *listener) release() { <-l.slots }

// put queues a connection that has a reserved slot.
func (l *listener) put(conn net.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		l.release()
		return l.err
	}
	l.conns <- conn
	return nil
}

// Accept returns connections until the listener or its session is closed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		l.release()
		return conn, nil
	case <-l.ended:
		return nil, fmt.Errorf("accept on port %d: %w", l.port, l.err)
	}
}

func (l *listener) Close() error {
	l.shut(net.ErrClosed)
	return nil
}

// shut ends the listener with the error that Accept then returns, and drops
// the connections nobody accepted.
func (l *listener) shut(err error) {
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = err
		close(l.ended)
	}
	l.mu.Unlock()
	if !first {
		return
	}
	l.forget()
	for {
		select {
		case conn := <-l.conns:
			l.release()
			_ = conn.Close()
		default:
			return
		}
	}
}

func (l *listener) Addr() net.Addr { return addr(l.port) }
