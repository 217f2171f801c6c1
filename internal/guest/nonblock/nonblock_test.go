package nonblock_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/guest/nonblock"
)

// pipe returns a pipe and its two ends as files of this package.
func pipe(t *testing.T) (r, w *nonblock.File) {
	t.Helper()
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = pr.Close(), pw.Close() })
	if r, err = nonblock.New(pr); err != nil {
		t.Fatal(err)
	}
	if w, err = nonblock.New(pw); err != nil {
		t.Fatal(err)
	}
	return r, w
}

// TestPipe carries far more than fits into a pipe, so that both ends wait.
func TestPipe(t *testing.T) {
	r, w := pipe(t)
	data := bytes.Repeat([]byte("dougong\n"), 1<<18)
	sent := make(chan error, 1)
	go func() {
		n, err := w.Write(data)
		if err == nil && n != len(data) {
			err = io.ErrShortWrite
		}
		sent <- errors.Join(err, w.Close())
	}()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("read %d bytes which are not the %d written", len(got), len(data))
	}
}

func TestReadNothing(t *testing.T) {
	r, _ := pipe(t)
	if n, err := r.Read(nil); n != 0 || err != nil {
		t.Errorf("a read of nothing: %d, %v", n, err)
	}
}

func TestDeadlineEndsRead(t *testing.T) {
	r, _ := pipe(t)
	if err := r.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read past its deadline: %v", err)
	}
}

func TestCloseEndsWrite(t *testing.T) {
	_, w := pipe(t)
	ended := make(chan error, 1)
	go func() {
		_, err := w.Write(make([]byte, 4<<20))
		ended <- err
	}()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("a write to a closed file: %v", err)
	}
}

func TestErrorOfCall(t *testing.T) {
	_, w := pipe(t)
	n, err := w.WaitWrite(func(uintptr) (uintptr, syscall.Errno) { return ^uintptr(0), unix.EIO })
	if n != 0 || !errors.Is(err, unix.EIO) {
		t.Errorf("a call that fails: %d, %v", n, err)
	}
}

func TestWaitsAgainAndAgain(t *testing.T) {
	_, w := pipe(t)
	answers := []syscall.Errno{unix.EINTR, unix.EINTR, 0}
	n, err := w.WaitWrite(func(uintptr) (uintptr, syscall.Errno) {
		answer := answers[0]
		answers = answers[1:]
		return 7, answer
	})
	if n != 7 || err != nil {
		t.Errorf("a call that is interrupted: %d, %v", n, err)
	}
}

// TestBlockingRefused: such a file would stop everything else.
func TestBlockingRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if _, err := nonblock.New(f); !errors.Is(err, nonblock.ErrBlocks) {
		t.Errorf("a file whose calls wait: %v", err)
	}
}
