package engine

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const patience = 20 * time.Second

func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing happens", what)
		panic("unreachable")
	}
}

// process is the sandbox's side of an attachment.
type process struct{ stdin, stdout, stderr *os.File }

// open opens the FIFOs of u; each open waits for its other end.
func open(t *testing.T, u StdioURIs) process {
	t.Helper()
	end := func(path string, flags int) *os.File {
		if path == "" {
			return nil
		}
		f, err := os.OpenFile(path, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	return process{end(u.Stdin, os.O_RDONLY), end(u.Stdout, os.O_WRONLY), end(u.Stderr, os.O_WRONLY)}
}

func attach(t *testing.T, s Streams) *Attachment {
	t.Helper()
	a, err := Attach(t.Context(), filepath.Join(t.TempDir(), "io", "init"), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func TestAttachCarriesBothWays(t *testing.T) {
	defer goleak.VerifyNone(t)
	var stdout, stderr bytes.Buffer
	a := attach(t, Streams{Stdin: strings.NewReader("question"), Stdout: &stdout, Stderr: &stderr})
	p := open(t, a.URIs())
	fake := newFakeTask()
	a.CarryIn(t.Context(), &Client{Task: fake}, "c1", "e1")
	question, err := io.ReadAll(p.stdin)
	if string(question) != "question" || err != nil {
		t.Errorf("the process reads %q, %v", question, err)
	}
	// The FIFO's end alone is none: others may have it open.
	if r := await(t, fake.closed, "CloseIO"); r.ID != "c1" || r.ExecID != "e1" || !r.Stdin {
		t.Errorf("the end of input is told as %v", r)
	}
	write(t, p.stdout, "answer")
	write(t, p.stderr, "complaint")
	p.stdout.Close()
	p.stderr.Close()
	a.Drain()
	if stdout.String() != "answer" || stderr.String() != "complaint" {
		t.Errorf("output is %q, %q", &stdout, &stderr)
	}
	select {
	case <-a.Broken():
		t.Error("output that ended counts as broken")
	default:
	}
	a.Close()
}

func TestAttachNothing(t *testing.T) {
	a := attach(t, Streams{})
	if u := a.URIs(); u != (StdioURIs{}) {
		t.Errorf("URIs of nothing are %v", u)
	}
	a.CarryIn(t.Context(), nil, "c1", "")
	a.Drain()
}

// unwritable is a pipe whose reader is gone.
type unwritable struct{}

func (unwritable) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestBrokenPipeIsNoticedAndDrained(t *testing.T) {
	defer goleak.VerifyNone(t)
	a := attach(t, Streams{Stdout: unwritable{}, Stderr: unwritable{}})
	p := open(t, a.URIs())
	write(t, p.stderr, "x")
	await(t, a.Broken(), "broken pipe")
	// More than a FIFO holds: whoever writes must not be held up for ever.
	written := make(chan error, 1)
	go func() {
		_, err := p.stdout.Write(make([]byte, 1<<20))
		p.stdout.Close()
		p.stderr.Close()
		written <- err
	}()
	if err := await(t, written, "drain"); err != nil {
		t.Error(err)
	}
	a.Drain()
	a.Close()
}

// TestCloseWithoutAProcess gives up before anybody has opened the other ends.
func TestCloseWithoutAProcess(t *testing.T) {
	defer goleak.VerifyNone(t)
	a := attach(t, Streams{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard})
	dir := filepath.Dir(a.URIs().Stdout)
	a.Close()
	a.Drain()
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("FIFOs are left: %v", err)
	}
}

func TestFIFOsArePrivate(t *testing.T) {
	a := attach(t, Streams{Stdin: strings.NewReader(""), Stdout: io.Discard})
	for path, want := range map[string]fs.FileMode{
		a.URIs().Stdin: fs.ModeNamedPipe | 0o600, a.URIs().Stdout: fs.ModeNamedPipe | 0o600, a.dir: fs.ModeDir | 0o700,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s is %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

func TestAttachErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Attach(t.Context(), filepath.Join(file, "io"), Streams{Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), "make directory for stdio") {
		t.Errorf("a directory that cannot be made gives %v", err)
	}
}
