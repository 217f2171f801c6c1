package agent

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// portPair is a port, and what its host would hold. A socket takes what is
// spliced to it as a port does.
func portPair(t *testing.T) (*port, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	host := os.NewFile(uintptr(fds[1]), "host")
	t.Cleanup(func() { _ = host.Close() })
	p, err := newPort(os.NewFile(uintptr(fds[0]), "port"))
	if err != nil {
		t.Fatal(err)
	}
	return p, host
}

// TestPortCarriesAll writes parts of all sizes around those at which the way
// changes, and more than fits into a pipe.
func TestPortCarriesAll(t *testing.T) {
	p, host := portPair(t)
	sizes := [][]int{
		{1},
		{12, 1},
		{12, portWrite - 12},
		{12, portWrite - 11},
		{12, 128<<10 + 4},
		{0, portWrite + 1, 0},
		{portPipe},
		{portPipe + 1},
		{5, 3*portPipe + 17, 9},
	}
	var want []byte
	sent := make(chan error, 1)
	writes := make([][][]byte, len(sizes))
	for i, parts := range sizes {
		for _, size := range parts {
			part := make([]byte, size)
			_, _ = rand.Read(part)
			want = append(want, part...)
			writes[i] = append(writes[i], part)
		}
	}
	go func() {
		var errs []error
		for i, parts := range writes {
			n, err := p.WriteParts(parts...)
			if length := len(bytes.Join(parts, nil)); err == nil && n != length {
				t.Errorf("write %d: %d bytes of %d", i, n, length)
			}
			errs = append(errs, err)
		}
		sent <- errors.Join(append(errs, p.Close())...)
	}()
	got, err := io.ReadAll(host)
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the host has read %d bytes which are not the %d sent", len(got), len(want))
	}
}

// TestPortCloseEndsWrite: a host that does not read must not keep the port.
func TestPortCloseEndsWrite(t *testing.T) {
	p, _ := portPair(t)
	ended := make(chan error, 1)
	go func() {
		_, err := p.Write(make([]byte, 8<<20))
		ended <- err
	}()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a write to a closed port has succeeded")
	}
}

func TestPortRefusesFilesThatBlock(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := newPort(f); err == nil {
		t.Error("a file that cannot be waited for was taken")
	}
}
