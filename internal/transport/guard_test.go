package transport

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writes notes each write to a line.
type writes struct {
	discardLine
	all [][]byte
}

func (w *writes) Write(p []byte) (int, error) {
	w.all = append(w.all, slices.Clone(p))
	return len(p), nil
}

// joinedWrites is a line that can join parts.
type joinedWrites struct{ writes }

func (w *joinedWrites) WriteParts(parts ...[]byte) (int, error) {
	return w.Write(bytes.Join(parts, nil))
}

// discardLine is what a line has beside writes.
type discardLine struct{}

func (discardLine) Read([]byte) (int, error) { return 0, nil }
func (discardLine) Close() error             { return nil }

func header(kind byte, length uint32) []byte {
	h := make([]byte, frameHeader)
	h[frameTypeAt] = kind
	binary.BigEndian.PutUint32(h[frameLengthAt:], length)
	return h
}

// TestGuardJoinsFrames: the header of a frame goes with its data where the
// line can do that, and nothing else waits.
func TestGuardJoinsFrames(t *testing.T) {
	const windowUpdate = 1
	data := []byte("data")
	sent := [][]byte{header(frameData, 4), data, header(frameData, 0), header(windowUpdate, 4), header(frameData, 4), data}
	for name, c := range map[string]struct {
		joins bool
		want  [][]byte
	}{
		"line that joins": {true, [][]byte{slices.Concat(sent[0], data), sent[2], sent[3], slices.Concat(sent[4], data)}},
		"any other line":  {false, sent},
	} {
		t.Run(name, func(t *testing.T) {
			line := &joinedWrites{}
			g := &guard{ReadWriteCloser: &line.writes}
			if c.joins {
				g.ReadWriteCloser = line
			}
			for _, p := range sent {
				if n, err := g.Write(p); n != len(p) || err != nil {
					t.Errorf("write of %d bytes: %d, %v", len(p), n, err)
				}
			}
			if diff := cmp.Diff(c.want, line.all); diff != "" {
				t.Errorf("what the line got (-want +got):\n%s", diff)
			}
		})
	}
}
