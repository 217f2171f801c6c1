package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// A resolver's line carries questions of the guest and answers of the host, in
// any order:
//
//	[4] id, big endian   [1] 1 if it came by TCP, else 0   [2] length   [length] message
const questionHeader = 4 + 1 + 2

// MaxMessage is the longest message of DNS.
const MaxMessage = math.MaxUint16

// Question is a question to a name server, or the answer to it.
type Question struct {
	// ID tells which question an answer is to.
	ID uint32
	// TCP says how the question came, and so how long its answer may be.
	TCP bool
	// Message is DNS, as in a UDP datagram.
	Message []byte
}

// ReadQuestion reads a question or an answer.
func ReadQuestion(r io.Reader) (Question, error) {
	var header [questionHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Question{}, fmt.Errorf("read question: %w", err)
	}
	q := Question{ID: binary.BigEndian.Uint32(header[:]), TCP: header[4] == 1}
	q.Message = make([]byte, binary.BigEndian.Uint16(header[5:]))
	if _, err := io.ReadFull(r, q.Message); err != nil {
		return Question{}, fmt.Errorf("read question: %w", err)
	}
	return q, nil
}

// WriteQuestion writes a question or an answer in one piece.
func WriteQuestion(w io.Writer, q Question) error {
	if len(q.Message) > MaxMessage {
		return fmt.Errorf("write question: %d bytes are no message of DNS", len(q.Message))
	}
	frame := make([]byte, 0, questionHeader+len(q.Message))
	frame = binary.BigEndian.AppendUint32(frame, q.ID)
	kind := byte(0)
	if q.TCP {
		kind = 1
	}
	frame = append(frame, kind)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(q.Message)))
	if _, err := w.Write(append(frame, q.Message...)); err != nil {
		return fmt.Errorf("write question: %w", err)
	}
	return nil
}
