package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Every connection begins with a header of the dialing side and a verdict of
// the accepting side:
//
//	header   [1] magic and version   [4] port, big endian
//	verdict  [1] accepted | refused
const (
	headerMagic byte = 0xd1
	headerSize  int  = 1 + 4
)

const (
	verdictAccepted byte = 0
	verdictRefused  byte = 1
)

var errBadHeader = errors.New("transport: not a connection header")

func appendHeader(b []byte, port uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, headerMagic), port)
}

func readHeader(r io.Reader) (uint32, error) {
	var b [headerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("read connection header: %w", err)
	}
	if b[0] != headerMagic {
		return 0, fmt.Errorf("%w: first byte %#02x", errBadHeader, b[0])
	}
	return binary.BigEndian.Uint32(b[1:]), nil
}

func readVerdict(r io.Reader) error {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return fmt.Errorf("read verdict: %w", err)
	}
	if b[0] != verdictAccepted {
		return ErrRefused
	}
	return nil
}
