package transport

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// A line between host and guest lies still until the host takes it: the guest
// offers it with one byte when it is up, and begins its session only when it
// has read one. In between a machine can be saved and started again any
// number of times, since no end has any state yet.
//
// A host that wants the guest exercised before begins a rehearsal instead, after
// which the line is on offer again.
const (
	lineOffered   byte = 'R'
	lineTaken     byte = 'G'
	lineRehearsed byte = 'P'
)

// errLine says that the other end does not speak as agreed.
var errLine = errors.New("transport: unexpected byte on an idle line")

// StillLine is a line that carries nothing until the host has taken it: reads
// and writes wait. So a guest can begin its session, and all that works on it,
// before the line is offered, and a clone has that much less to do.
type StillLine struct {
	io.ReadWriteCloser
	// taken is closed when the host has taken the line, or never will.
	taken chan struct{}
	err   error
}

// NewStillLine makes a line of one that nothing was sent on.
func NewStillLine(line io.ReadWriteCloser) *StillLine {
	return &StillLine{ReadWriteCloser: line, taken: make(chan struct{})}
}

// Offer tells the host that the guest is up and waits until it takes the
// line. Before that the host may ask for rehearsals, each of which play serves
// until it has ended. It is called once.
func (l *StillLine) Offer(play func(*Rehearsal) error) error {
	defer close(l.taken)
	l.err = l.offer(play)
	return l.err
}

func (l *StillLine) offer(play func(*Rehearsal) error) error {
	for {
		if _, err := l.ReadWriteCloser.Write([]byte{lineOffered}); err != nil {
			return fmt.Errorf("offer the line: %w", err)
		}
		var b [1]byte
		if err := readWord(l.ReadWriteCloser, &b); err != nil {
			return err
		}
		switch b[0] {
		case lineTaken:
			return nil
		case lineRehearsed:
		default:
			return errLine
		}
		r := NewRehearsal(l.ReadWriteCloser)
		if err := errors.Join(play(r), r.End()); err != nil {
			return err
		}
	}
}

// Read implements io.Reader.
func (l *StillLine) Read(p []byte) (int, error) {
	if <-l.taken; l.err != nil {
		return 0, l.err
	}
	return l.ReadWriteCloser.Read(p)
}

// Write implements io.Writer.
func (l *StillLine) Write(p []byte) (int, error) {
	if <-l.taken; l.err != nil {
		return 0, l.err
	}
	return l.ReadWriteCloser.Write(p)
}

// WriteParts writes several parts as one where the line can.
func (l *StillLine) WriteParts(parts ...[]byte) (int, error) {
	if <-l.taken; l.err != nil {
		return 0, l.err
	}
	if line, ok := l.ReadWriteCloser.(joiner); ok {
		return line.WriteParts(parts...)
	}
	return l.ReadWriteCloser.Write(slices.Concat(parts...))
}

// AwaitLine waits until the guest has offered the line.
func AwaitLine(line io.Reader) error { return readByte(line, lineOffered) }

// TakeLine lets the guest begin its session. The host calls it when it listens
// for the guest's first words, and before it sends anything itself; for a clone
// without AwaitLine: its offer was heard from the template.
func TakeLine(line io.Writer) error {
	if _, err := line.Write([]byte{lineTaken}); err != nil {
		return fmt.Errorf("take the line: %w", err)
	}
	return nil
}

func readByte(line io.Reader, want byte) error {
	var b [1]byte
	if err := readWord(line, &b); err != nil {
		return err
	}
	if b[0] != want {
		return errLine
	}
	return nil
}

func readWord(line io.Reader, b *[1]byte) error {
	if _, err := io.ReadFull(line, b[:]); err != nil {
		return fmt.Errorf("wait for the other end of the line: %w", err)
	}
	return nil
}
