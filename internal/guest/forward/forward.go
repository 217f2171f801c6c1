// Package forward connects what the host forwards with servers in the guest.
//
// It owns the connections and their end. It must not decide who may connect: the
// host does.
package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"dougong.dev/dougong/internal/transport"
)

const (
	// dialTimeout is how long a server may take to accept.
	dialTimeout = 10 * time.Second
	// maxConns bounds what is forwarded at a time.
	maxConns = 512
)

// Server serves forwarded connections.
type Server struct {
	listener net.Listener
	cancel   context.CancelFunc
	serving  sync.WaitGroup
}

// Serve begins to serve those of l, which it then owns.
func Serve(l net.Listener) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{listener: l, cancel: cancel}
	s.serving.Go(func() { s.serve(ctx) })
	return s
}

// Close ends every connection and waits for that.
func (s *Server) Close() error {
	s.cancel()
	err := s.listener.Close()
	s.serving.Wait()
	return err
}

func (s *Server) serve(ctx context.Context) {
	slots := make(chan struct{}, maxConns)
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		s.serving.Go(func() {
			defer func() { <-slots }()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			if err := forward(ctx, conn); err != nil {
				slog.Debug("forwarded connection", "error", err)
			}
		})
	}
}

// forward serves one connection to its end.
func forward(ctx context.Context, conn net.Conn) error {
	defer func() { _ = conn.Close() }()
	address, err := transport.AcceptForward(conn)
	if err != nil {
		return err
	}
	tcp, err := dial(ctx, address)
	if err != nil {
		return errors.Join(err, transport.AnswerForward(conn, false))
	}
	if err := transport.AnswerForward(conn, true); err != nil {
		_ = tcp.Close()
		return err
	}
	return transport.Relay(tcp, conn)
}

// dial connects to a server. One on the loopback interface may listen at the
// address of either family, and who asks for it by name does not choose.
func dial(ctx context.Context, address netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var errs []error
	for _, a := range alternatives(address) {
		var d net.Dialer
		d.SetMultipathTCP(false)
		conn, err := d.DialContext(ctx, "tcp", a.String())
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		errs = append(errs, err)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
	}
	return nil, fmt.Errorf("dial: %w", errors.Join(errs...))
}

// The addresses of the loopback interface that everybody uses.
var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

func alternatives(address netip.AddrPort) []netip.AddrPort {
	switch address.Addr() {
	case loopback4:
		return []netip.AddrPort{address, netip.AddrPortFrom(loopback6, address.Port())}
	case loopback6:
		return []netip.AddrPort{address, netip.AddrPortFrom(loopback4, address.Port())}
	}
	return []netip.AddrPort{address}
}
