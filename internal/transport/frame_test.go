package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestFrames(t *testing.T) {
	for name, chunks := range map[string][]string{
		"nothing":     nil,
		"empty write": {""},
		"short":       {"a", "bc"},
		"long":        {strings.Repeat("0123456789", maxFrame/4)},
	} {
		t.Run(name, func(t *testing.T) {
			var line bytes.Buffer
			w := NewStreamWriter(&line)
			for _, c := range chunks {
				if n, err := io.WriteString(w, c); n != len(c) || err != nil {
					t.Fatalf("write: %d, %v", n, err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			line.WriteString("what comes after")
			if err := w.Close(); err != nil {
				t.Fatalf("second close: %v", err)
			}
			got, err := io.ReadAll(NewStreamReader(&line))
			if diff := cmp.Diff(strings.Join(chunks, ""), string(got)); diff != "" || err != nil {
				t.Fatalf("%v %s", err, diff)
			}
			if line.String() != "what comes after" {
				t.Fatalf("read beyond the end of the stream: left %q", line.String())
			}
			if _, err := w.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Fatalf("write after close: %v", err)
			}
		})
	}
}

func TestFramesReadFrom(t *testing.T) {
	sent := bytes.Repeat([]byte("abc"), maxFrame)
	var line bytes.Buffer
	w := NewStreamWriter(&line)
	n, err := io.Copy(w, iotest.HalfReader(bytes.NewReader(sent)))
	if err != nil || n != int64(len(sent)) {
		t.Fatal(n, err)
	}
	_ = w.Close()
	if err := iotest.TestReader(NewStreamReader(&line), sent); err != nil {
		t.Fatal(err)
	}
}

// Only an end that was sent is an end.
func TestFramesCut(t *testing.T) {
	var line bytes.Buffer
	w := NewStreamWriter(&line)
	_, _ = w.Write([]byte("abc"))
	_ = w.Close()
	whole := line.Bytes()
	for cut := range len(whole) {
		_, err := io.ReadAll(NewStreamReader(bytes.NewReader(whole[:cut])))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func TestFramesTooLong(t *testing.T) {
	r := NewStreamReader(bytes.NewReader([]byte{0xff, 0, 0, 0, 1}))
	for range 2 {
		if _, err := r.Read(make([]byte, 10)); !errors.Is(err, ErrFrame) {
			t.Fatalf("got %v, want ErrFrame", err)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'x', 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := io.ReadAll(NewStreamReader(iotest.OneByteReader(bytes.NewReader(data))))
		if len(got) > len(data) {
			t.Fatal("more bytes than came in")
		}
		whole, werr := io.ReadAll(NewStreamReader(bytes.NewReader(data)))
		if !bytes.Equal(got, whole) || (err == nil) != (werr == nil) {
			t.Fatalf("by bytes %x %v, at once %x %v", got, err, whole, werr)
		}
	})
}

// BenchmarkStream is the path of a container's output: framed, over one
// multiplexed connection of a socket pair.
func BenchmarkStream(b *testing.B) {
	host, guest := muxPair(b)
	defer func() { _, _ = host.Close(), guest.Close() }()
	out, in := connect(b, host, guest)
	const chunk = 64 << 10
	b.SetBytes(chunk)
	b.ReportAllocs()
	go func() {
		w := NewStreamWriter(out)
		_, _ = io.Copy(w, io.LimitReader(zeros{}, int64(b.N)*chunk))
		_ = w.Close()
	}()
	if n, err := io.Copy(io.Discard, NewStreamReader(in)); err != nil || n != int64(b.N)*chunk {
		b.Fatal(n, err)
	}
}

// zeros gives what a pipe gives: at most 64 KiB at a time.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return min(len(p), 64<<10), nil }
