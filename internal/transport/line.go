package transport

import (
	"errors"
	"fmt"
	"io"
)

// A line between host and guest lies still until the host takes it: the guest
// offers it with one byte when it is up, and begins its session only when it
// has read one. In between a machine can be saved and started again any
// number of times, since no end has any state yet.
const (
	lineOffered byte = 'R'
	lineTaken   byte = 'G'
)

// errLine says that the other end does not speak as agreed.
var errLine = errors.New("transport: unexpected byte on an idle line")

// OfferLine tells the host that the guest is up and waits until it takes the
// line. The guest calls it before NewGuest.
func OfferLine(line io.ReadWriter) error {
	if _, err := line.Write([]byte{lineOffered}); err != nil {
		return fmt.Errorf("offer the line: %w", err)
	}
	return readByte(line, lineTaken)
}

// AwaitLine waits until the guest has offered the line.
func AwaitLine(line io.Reader) error { return readByte(line, lineOffered) }

// TakeLine lets the guest begin its session. The host calls it before NewHost,
// for a clone without AwaitLine: its offer was heard from the template.
func TakeLine(line io.Writer) error {
	if _, err := line.Write([]byte{lineTaken}); err != nil {
		return fmt.Errorf("take the line: %w", err)
	}
	return nil
}

func readByte(line io.Reader, want byte) error {
	var b [1]byte
	if _, err := io.ReadFull(line, b[:]); err != nil {
		return fmt.Errorf("wait for the other end of the line: %w", err)
	}
	if b[0] != want {
		return errLine
	}
	return nil
}
