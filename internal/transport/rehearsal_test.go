package transport

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pipe is a line of which each end is read and written as it is.
type pipe struct {
	io.Reader
	io.Writer
}

func (pipe) Close() error { return nil }

// buffered is a line that takes a few bytes before they are read.
func buffered(t *testing.T) (near, far io.ReadWriteCloser) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

func TestRehearsal(t *testing.T) {
	near, far := buffered(t)
	offered := make(chan error, 1)
	go func() {
		offered <- NewStillLine(far).Offer(func(r *Rehearsal) error {
			text, err := io.ReadAll(r)
			if err == nil {
				_, err = r.Write(bytes.ToUpper(text))
			}
			return err
		})
	}()
	long := strings.Repeat("to be ", 50_000)
	for _, text := range []string{"hello", "", long} {
		if err := errors.Join(AwaitLine(near), BeginRehearsal(near)); err != nil {
			t.Fatal(err)
		}
		r := NewRehearsal(near)
		if _, err := r.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Write([]byte{1}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("write after the end: %v", err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != strings.ToUpper(text) {
			t.Errorf("%d bytes come back as %d, %v", len(text), len(got), err)
		}
		if err := r.End(); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(AwaitLine(near), TakeLine(near), <-offered); err != nil {
		t.Error(err)
	}
}

func TestRehearsalCutOff(t *testing.T) {
	for name, sent := range map[string]string{"at once": "", "in a length": "\x00", "in a part": "\x00\x05abc"} {
		r := NewRehearsal(pipe{strings.NewReader(sent), io.Discard})
		if err := r.End(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// endless never comes to its end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}

func TestRehearsalWithoutEnd(t *testing.T) {
	if err := NewRehearsal(pipe{endless{}, io.Discard}).End(); !errors.Is(err, errChatter) {
		t.Errorf("error %v", err)
	}
}

func TestOfferAnswersNoise(t *testing.T) {
	still := NewStillLine(pipe{strings.NewReader("x"), io.Discard})
	if err := still.Offer(noRehearsal); !errors.Is(err, errLine) {
		t.Errorf("error %v", err)
	}
}

// FuzzRehearsal reads what a guest may send: no more comes out than went in, and
// it comes to an end.
func FuzzRehearsal(f *testing.F) {
	f.Add([]byte("\x00\x05hello\x00\x00"))
	f.Add([]byte("\xff\xffx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _ := io.ReadAll(NewRehearsal(pipe{bytes.NewReader(data), io.Discard}))
		if len(got) > len(data) {
			t.Errorf("%d bytes out of %d", len(got), len(data))
		}
	})
}
