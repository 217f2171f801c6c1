package shim

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"
)

// answers counts the calls that were read and have no answer yet. ttrpc takes a
// connection whose first call is being answered for an idle one and closes it
// when its server ends, so it is counted here, by what goes over the line.
type answers struct {
	mu   sync.Mutex
	owed int
}

// add counts n more calls, or with a negative n fewer, and returns the sum.
func (a *answers) add(n int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.owed += n
	return a.owed
}

// answered waits until no answer is owed, or ctx ends.
func (a *answers) answered(ctx context.Context) {
	tick := time.NewTicker(flushLook)
	defer tick.Stop()
	for a.add(0) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// watch has the calls over a connection counted.
func (a *answers) watch(conn net.Conn) net.Conn { return &answering{Conn: conn, to: a} }

// Handshake lets everybody in.
func (a *answers) Handshake(_ context.Context, conn net.Conn) (net.Conn, any, error) {
	return a.watch(conn), nil, nil
}

// answering is a connection whose calls are counted.
type answering struct {
	net.Conn
	to *answers
	// in is only used by who reads, out by who writes.
	in, out frames

	mu sync.Mutex
	// owed are the calls of this connection.
	owed   int
	closed bool
}

// Read reads calls.
func (c *answering) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.owe(c.in.count(p[:n], frameRequest))
	return n, err
}

// Write writes answers.
func (c *answering) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.owe(-c.out.count(p[:n], frameResponse))
	return n, err
}

// Close closes the connection: nobody waits for its answers any more.
func (c *answering) Close() error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		c.to.add(-c.owed)
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

func (c *answering) owe(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == 0 || c.closed {
		return
	}
	c.owed += n
	c.to.add(n)
}

// Frames of ttrpc begin with a header of ten bytes: the length of what follows,
// the number of the stream, the kind, and flags.
const (
	frameHeader   = 10
	frameKind     = 8
	frameRequest  = 1
	frameResponse = 2
)

// frames finds the frames in what goes one way over a connection.
type frames struct {
	header [frameHeader]byte
	// have is how much of the header is there, and left how much of what follows
	// is yet to come.
	have int
	left uint32
}

// count returns how many frames of a kind end in the next bytes.
func (f *frames) count(p []byte, kind byte) (n int) {
	for len(p) > 0 {
		if f.have < frameHeader {
			some := copy(f.header[f.have:], p)
			f.have, p = f.have+some, p[some:]
			if f.have < frameHeader {
				return n
			}
			f.left = binary.BigEndian.Uint32(f.header[:4])
		}
		some := min(int64(f.left), int64(len(p)))
		f.left, p = f.left-uint32(some), p[some:]
		if f.left > 0 {
			return n
		}
		if f.header[frameKind] == kind {
			n++
		}
		f.have = 0
	}
	return n
}
