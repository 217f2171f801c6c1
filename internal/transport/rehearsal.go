package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// A rehearsal is a session on a line that lies still again afterwards: so a
// machine can be exercised, then stopped, and its line be given to somebody
// else. The host begins it with one byte where it would take the line, and
// then either end sends
//
//	[2] length, big endian   [length] bytes
//
// and at last a length of 0. When both have, the guest offers the line anew.

// maxPart is the most that one part of a rehearsal carries.
const maxPart = 1<<16 - 1

// maxDrained is the most that an end lets the other say after its own last word.
const maxDrained = 1 << 20

// errChatter says that the other end does not come to its end.
var errChatter = errors.New("transport: the other end goes on after the end of a rehearsal")

// Rehearsal is one end of a rehearsal. One goroutine may read while another
// writes.
type Rehearsal struct {
	line io.ReadWriter

	writing sync.Mutex
	closed  bool

	reading sync.Mutex
	// left is what of the part being read is still to come.
	left  int
	ended bool
}

// BeginRehearsal has the guest behind a line that is on offer begin a
// rehearsal. Whoever listens must do so before it calls this.
func BeginRehearsal(line io.Writer) error {
	if _, err := line.Write([]byte{lineRehearsed}); err != nil {
		return fmt.Errorf("begin a rehearsal: %w", err)
	}
	return nil
}

// NewRehearsal is an end of a rehearsal on a line on which it begins or has
// begun. The line stays the caller's.
func NewRehearsal(line io.ReadWriter) *Rehearsal { return &Rehearsal{line: line} }

// Read implements io.Reader. It returns io.EOF when the other end has said its
// last word, and does not return before that when this end has.
func (r *Rehearsal) Read(p []byte) (int, error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.nextPart(); err != nil {
		return 0, err
	}
	n, err := r.line.Read(p[:min(len(p), r.left)])
	r.left -= n
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// nextPart makes sure that there is something left to read.
func (r *Rehearsal) nextPart() error {
	if r.ended {
		return io.EOF
	}
	if r.left > 0 {
		return nil
	}
	var length [2]byte
	if _, err := io.ReadFull(r.line, length[:]); err != nil {
		return fmt.Errorf("read a part of a rehearsal: %w", unexpected(err))
	}
	r.left = int(binary.BigEndian.Uint16(length[:]))
	r.ended = r.left == 0
	if r.ended {
		return io.EOF
	}
	return nil
}

// Write implements io.Writer.
func (r *Rehearsal) Write(p []byte) (int, error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	written := 0
	for len(p) > written {
		if r.closed {
			return written, io.ErrClosedPipe
		}
		part := p[written:min(len(p), written+maxPart)]
		if _, err := r.line.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(part))), part...)); err != nil {
			return written, err
		}
		written += len(part)
	}
	return written, nil
}

// Close says the last word of this end. It may be called more than once.
func (r *Rehearsal) Close() error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	_, err := r.line.Write([]byte{0, 0})
	return err
}

// End says the last word of this end if that was not done, and returns when
// the other has said its own: nothing of the rehearsal is on the line then.
func (r *Rehearsal) End() error {
	if err := r.Close(); err != nil {
		return fmt.Errorf("end a rehearsal: %w", err)
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxDrained))
	if err == nil && n == maxDrained {
		err = errChatter
	}
	if err != nil {
		return fmt.Errorf("end a rehearsal: %w", err)
	}
	return nil
}
