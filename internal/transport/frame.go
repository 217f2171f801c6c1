package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// A framed stream is a sequence of [4] length, big endian, [length] bytes. A
// length of zero is the end of the stream.
const (
	frameLen = 4
	// maxFrame bounds the data of a frame; also what a writer gathers at most.
	maxFrame = 128 << 10
)

// ErrFrame says that the peer sent a frame longer than is agreed.
var ErrFrame = errors.New("transport: frame too long")

// streamWriter frames what is written to it.
type streamWriter struct {
	w     io.Writer
	buf   []byte
	ended bool
}

// NewStreamWriter returns a writer that sends bytes in frames over conn. Its
// Close sends the end of the stream and leaves conn open. It is for one
// goroutine at a time.
func NewStreamWriter(conn io.Writer) io.WriteCloser {
	return &streamWriter{w: conn}
}

// Write sends p in as few frames as its length allows.
func (w *streamWriter) Write(p []byte) (int, error) {
	if w.ended {
		return 0, net.ErrClosed
	}
	sent := 0
	for len(p) > 0 {
		n := min(len(p), maxFrame)
		w.grow(n)
		copy(w.buf[frameLen:], p[:n])
		if err := w.send(n); err != nil {
			return sent, err
		}
		sent += n
		p = p[n:]
	}
	return sent, nil
}

// ReadFrom sends everything of r without a copy of its own; io.Copy uses it.
// A frame goes out as soon as r has bytes.
func (w *streamWriter) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	w.grow(maxFrame)
	for {
		n, err := r.Read(w.buf[frameLen : frameLen+maxFrame])
		if n > 0 {
			if err := w.send(n); err != nil {
				return total, err
			}
			total += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// grow makes room for a frame of n bytes and keeps it for the next: few
// streams ever carry a full frame, and those that do carry many.
func (w *streamWriter) grow(n int) {
	if cap(w.buf) < frameLen+n {
		w.buf = make([]byte, frameLen+n)
	}
	w.buf = w.buf[:cap(w.buf)]
}

func (w *streamWriter) send(n int) error {
	if w.ended {
		return net.ErrClosed
	}
	binary.BigEndian.PutUint32(w.buf, uint32(n))
	if _, err := w.w.Write(w.buf[:frameLen+n]); err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	return nil
}

// Close sends the end of the stream, once.
func (w *streamWriter) Close() error {
	if w.ended {
		return nil
	}
	w.grow(0)
	err := w.send(0)
	w.ended = true
	w.buf = nil
	return err
}

// streamReader undoes streamWriter.
type streamReader struct {
	r     io.Reader
	left  uint32
	err   error
	frame [frameLen]byte
}

// NewStreamReader returns the bytes that a NewStreamWriter at the other end
// of conn sends. It returns io.EOF only for an end of the stream that was
// sent; a connection that ends before that is an io.ErrUnexpectedEOF.
func NewStreamReader(conn io.Reader) io.Reader {
	return &streamReader{r: conn}
}

func (r *streamReader) Read(p []byte) (int, error) {
	if len(p) == 0 || r.err != nil {
		return 0, r.err
	}
	if r.left == 0 {
		if r.err = r.next(); r.err != nil {
			return 0, r.err
		}
	}
	n, err := r.r.Read(p[:min(len(p), int(r.left))])
	r.left -= uint32(n)
	if err != nil {
		r.err = unexpected(err)
	}
	if n > 0 {
		return n, nil
	}
	return 0, r.err
}

// next reads a frame's length.
func (r *streamReader) next() error {
	if _, err := io.ReadFull(r.r, r.frame[:]); err != nil {
		return unexpected(err)
	}
	r.left = binary.BigEndian.Uint32(r.frame[:])
	switch {
	case r.left == 0:
		return io.EOF
	case r.left > maxFrame:
		return fmt.Errorf("%w: %d bytes", ErrFrame, r.left)
	default:
		return nil
	}
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
