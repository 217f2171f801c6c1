package transport

import (
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
)

// maxForeign bounds the connections that a peer keeps open. Each can hold a
// window of bytes that nobody reads.
const maxForeign = 256

// Of yamux's frame header: [1] version [1] type [2] flags [4] stream [4] length.
const (
	frameHeader   = 12
	frameData     = 0
	framePing     = 2
	frameFlagSYN  = 1
	frameTypeAt   = 1
	frameFlagsAt  = 2
	frameLengthAt = 8
)

var (
	errPing    = errors.New("transport: peer sent a ping, which this protocol does not use")
	errStreams = errors.New("transport: peer keeps too many connections open")
)

// guard reads along on a yamux line and ends it when the peer makes yamux
// hold more than is agreed. yamux starts a goroutine for every ping, and keeps
// any number of streams; neither has a limit of its own.
type guard struct {
	io.ReadWriteCloser
	inbound atomic.Pointer[muxLink]

	header [frameHeader]byte
	have   int
	body   uint32

	// held is the header of a frame whose data comes with the next write.
	held    [frameHeader]byte
	holding bool
}

// joiner is a line that sends several parts at the price of one.
type joiner interface {
	WriteParts(parts ...[]byte) (int, error)
}

// Write implements io.Writer for yamux's only writing goroutine, which writes
// the header and the data of a frame one after the other. On a line where each
// write has its price, both go together.
func (g *guard) Write(p []byte) (int, error) {
	line, ok := g.ReadWriteCloser.(joiner)
	switch {
	case !ok:
		return g.ReadWriteCloser.Write(p)
	case g.holding:
		g.holding = false
		n, err := line.WriteParts(g.held[:], p)
		return max(n-frameHeader, 0), err
	case len(p) == frameHeader && p[frameTypeAt] == frameData && binary.BigEndian.Uint32(p[frameLengthAt:]) > 0:
		g.holding = true
		return copy(g.held[:], p), nil
	default:
		return g.ReadWriteCloser.Write(p)
	}
}

// Read implements io.Reader for yamux's only reading goroutine.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.ReadWriteCloser.Read(p)
	if bad := g.inspect(p[:n]); bad != nil {
		return 0, bad
	}
	return n, err
}

func (g *guard) inspect(p []byte) error {
	for len(p) > 0 {
		if g.body > 0 {
			skip := min(uint32(len(p)), g.body)
			g.body -= skip
			p = p[skip:]
			continue
		}
		n := copy(g.header[g.have:], p)
		g.have += n
		p = p[n:]
		if g.have < frameHeader {
			return nil
		}
		g.have = 0
		if err := g.frame(); err != nil {
			return err
		}
	}
	return nil
}

// frame judges a complete header.
func (g *guard) frame() error {
	kind := g.header[frameTypeAt]
	flags := binary.BigEndian.Uint16(g.header[frameFlagsAt:])
	if kind == framePing {
		return errPing
	}
	if kind == frameData {
		g.body = binary.BigEndian.Uint32(g.header[frameLengthAt:])
	}
	if flags&frameFlagSYN == 0 {
		return nil
	}
	if l := g.inbound.Load(); l != nil && l.foreign() > maxForeign {
		return errStreams
	}
	return nil
}
