// Package transport carries connections between host and guest: numbered
// ports over vsock, or over one virtio-serial line multiplexed by yamux.
//
// It owns the sessions, the port numbers and the framing of byte streams. It
// must not know what is spoken on a port, and it treats its peer as hostile:
// every length is bounded.
package transport

import (
	"context"
	"errors"
	"net"
)

// Ports of the protocol between sandbox and agent.
const (
	// PortReady is served by the host: the agent connects to it once and
	// sends its Hello, when every service in the guest is up.
	PortReady uint32 = 1024
	// PortControl is served by the guest: ttrpc.
	PortControl uint32 = 1025
	// PortStream is served by the guest: one connection for each stdio
	// stream, opened with a stream id.
	PortStream uint32 = 1026
	// PortForward is served by the guest: one connection for each that is
	// forwarded into it, opened with the address there.
	PortForward uint32 = 1027
	// PortResolver is served by the guest: the host takes questions from there
	// that are meant for a name server of its own, and answers them.
	PortResolver uint32 = 1028
)

// ErrClosed says that the session has ended, on this side or on the other.
var ErrClosed = errors.New("transport: session closed")

// ErrRefused says that the peer is there and does not serve the port, or has
// more connections waiting on it than it takes.
var ErrRefused = errors.New("transport: connection refused by peer")

// Session is one end of the link between a host and its guest. Both ends can
// open connections and listen; a port lives on the end that listens.
type Session interface {
	// Dial connects to a port of the peer. With the peer not yet there it
	// waits until the peer comes, ctx ends or the session closes.
	Dial(ctx context.Context, port uint32) (net.Conn, error)
	// Listen accepts connections of the peer to a port of this end.
	Listen(port uint32) (net.Listener, error)
	// Done is closed when the session has ended.
	Done() <-chan struct{}
	// Close ends the session and everything on it.
	Close() error
}
