package sandbox

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"dougong.dev/dougong/internal/transport"
)

const (
	// forwardTimeout is how long a server in the guest may take to accept.
	forwardTimeout = 15 * time.Second
	// maxForwards bounds the connections that are forwarded at a time.
	maxForwards = 256
)

// forwardLoopback leads connections that are made to the loopback interface of
// the sandbox's network namespace into the guest: containerd's port-forward
// dials there.
func (s *Sandbox) forwardLoopback() {
	if s.network == nil {
		return
	}
	loopback, err := s.network.namespace.Loopback()
	if err != nil {
		slog.Warn("ports are not forwarded into the guest", "sandbox", s.opts.ID, "error", err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var forwards sync.WaitGroup
	forwards.Go(func() {
		slots := make(chan struct{}, maxForwards)
		for {
			slots <- struct{}{}
			conn, err := loopback.Accept()
			if err != nil {
				return
			}
			forwards.Go(func() {
				defer func() { <-slots }()
				s.forward(ctx, conn.(*net.TCPConn))
			})
		}
	})
	s.releases.push(func() {
		cancel()
		logError("give the loopback interface back", s.opts.ID, loopback.Close())
		forwards.Wait()
	})
}

// forward carries one connection to its end.
func (s *Sandbox) forward(ctx context.Context, tcp *net.TCPConn) {
	address := tcp.LocalAddr().(*net.TCPAddr).AddrPort()
	dialing, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	conn, err := s.client.OpenForward(dialing, netip.AddrPortFrom(address.Addr().Unmap(), address.Port()))
	if err != nil {
		slog.Debug("forward a connection", "sandbox", s.opts.ID, "address", address, "error", err)
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() {
		_ = conn.Close()
		_ = tcp.Close()
	})
	defer stop()
	if err := transport.Relay(tcp, conn); err != nil {
		slog.Debug("forwarded connection", "sandbox", s.opts.ID, "address", address, "error", err)
	}
}
