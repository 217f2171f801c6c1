package socket

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// longDir is a directory whose path does not fit into a socket address.
func longDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLongPath(t *testing.T) {
	dir := longDir(t)
	l, err := Listen(dir, "task.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "hello")
	}()
	c, err := Dial(dir, "task.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if string(got) != "hello" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestNameStaysAfterClose(t *testing.T) {
	dir := longDir(t)
	l, err := Listen(dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "s"))
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("the name is %v, %v", info, err)
	}
	if _, err := Dial(dir, "s"); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), filepath.Join(dir, "s")) {
		t.Errorf("a socket without a listener gives %v", err)
	}
	if _, err := Listen(dir, "s"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a name that is taken gives %v", err)
	}
}

func TestMissing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(dir, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing socket gives %v", err)
	}
	if _, err := Dial(filepath.Join(dir, "none"), "s"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory gives %v", err)
	}
	if _, err := Listen(filepath.Join(dir, "none"), "s"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory gives %v", err)
	}
	if _, err := Listen(file, "s"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file in place of the directory gives %v", err)
	}
}

// TestNothingStaysOpen counts descriptors: the detour needs one of its own.
func TestNothingStaysOpen(t *testing.T) {
	dir := t.TempDir()
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	// The first socket also opens the runtime's poller.
	if l, err := Listen(dir, "warm"); err == nil {
		l.Close()
	}
	before := count()
	l, err := Listen(dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = Dial(dir, "none")
	c.Close()
	l.Close()
	if after := count(); after != before {
		t.Errorf("%d descriptors are open, there were %d", after, before)
	}
}
