package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// A forwarded connection begins as a stream does, with the address in place of
// the id: [1] length [length] address, and the verdict of the guest once it has
// a connection to there. Then both sides send frames, so that each can end its
// own direction.

// OpenForward connects to a TCP address of the peer, as the peer sees it. One
// that nobody listens at is ErrRefused.
func OpenForward(ctx context.Context, sess Session, address netip.AddrPort) (net.Conn, error) {
	conn, err := dialNamed(ctx, sess, PortForward, address.String())
	if err != nil {
		return nil, fmt.Errorf("forward to %s: %w", address, err)
	}
	return conn, nil
}

// AcceptForward reads where a forwarded connection leads to.
func AcceptForward(conn net.Conn) (netip.AddrPort, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return netip.AddrPort{}, fmt.Errorf("set deadline: %w", err)
	}
	text, err := readStreamID(conn)
	if err != nil {
		return netip.AddrPort{}, err
	}
	address, err := netip.ParseAddrPort(text)
	if err != nil || address.Addr().Zone() != "" || address.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address to forward to", text)
	}
	return address, nil
}

// AnswerForward tells the peer whether there is a connection to where it wants
// to. With one, the conversation has no deadline any more.
func AnswerForward(conn net.Conn, connected bool) error {
	verdict := verdictRefused
	if connected {
		verdict = verdictAccepted
	}
	if _, err := conn.Write([]byte{verdict}); err != nil {
		return fmt.Errorf("answer forward: %w", err)
	}
	if !connected {
		return nil
	}
	return conn.SetDeadline(time.Time{})
}

// Relay carries bytes between a TCP connection and a forwarded one until both
// directions have ended, each by itself, or one has failed, which ends the other
// at once. Both connections are closed then: after a failure the TCP connection
// is reset.
func Relay(tcp *net.TCPConn, conn net.Conn) error {
	ends := make(chan error, 2)
	go func() {
		_, err := io.Copy(tcp, NewStreamReader(conn))
		if err == nil {
			err = tcp.CloseWrite()
		}
		ends <- err
	}()
	go func() {
		w := NewStreamWriter(conn)
		_, err := io.Copy(w, tcp)
		if err == nil {
			err = w.Close()
		}
		ends <- err
	}()
	var err error
	for range 2 {
		if end := <-ends; end != nil && err == nil {
			err = end
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
			_ = conn.Close()
		}
	}
	return errors.Join(err, ignoreClosed(tcp.Close()), ignoreClosed(conn.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
