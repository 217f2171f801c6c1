package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/mdlayher/vsock"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// socketPair is what lies between QEMU's chardev and the sandbox.
func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	return conns[0], conns[1]
}

func muxPair(t testing.TB) (host, guest Session) {
	a, b := socketPair(t)
	return NewHost(a), NewGuest(b)
}

// unixVsock plays AF_VSOCK with UNIX sockets: one socket file for each
// context id and port, and addresses that tell who has dialed.
func unixVsock(dir string, self uint32) vsockFamily {
	path := func(cid, port uint32) string { return filepath.Join(dir, fmt.Sprintf("%d.%d", cid, port)) }
	return vsockFamily{
		dial: func(ctx context.Context, cid, port uint32) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", path(cid, port))
			if errors.Is(err, unix.ENOENT) {
				return nil, unix.ECONNREFUSED
			}
			if err != nil {
				return nil, err
			}
			_, err = conn.Write([]byte{byte(self)})
			return conn, err
		},
		listen: func(cid, port uint32) (net.Listener, error) {
			l, err := net.Listen("unix", path(cid, port))
			return &cidListener{Listener: l}, err
		},
	}
}

// cidListener learns the dialer's context id from the first byte.
type cidListener struct{ net.Listener }

func (l *cidListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	var b [1]byte
	if _, err := conn.Read(b[:]); err != nil {
		return nil, err
	}
	return &cidConn{Conn: conn, cid: uint32(b[0])}, nil
}

type cidConn struct {
	net.Conn
	cid uint32
}

func (c *cidConn) RemoteAddr() net.Addr { return &vsock.Addr{ContextID: c.cid} }

func vsockPair(t testing.TB) (host, guest Session) {
	t.Helper()
	const cid = 77
	dir := t.TempDir()
	host, err := newVsock(unixVsock(dir, vsock.Host),
		vsockEnd{peer: cid, peerPort: guestVsockPort, local: vsock.Host, localPort: cid})
	if err != nil {
		t.Fatal(err)
	}
	guest, err = newVsock(unixVsock(dir, cid),
		vsockEnd{peer: vsock.Host, peerPort: cid, local: cid, localPort: guestVsockPort})
	if err != nil {
		t.Fatal(err)
	}
	return host, guest
}

// realVsockPair has both ends on this machine, by the loopback of AF_VSOCK.
// It skips the test where the kernel has none.
func realVsockPair(t testing.TB) (host, guest Session) {
	t.Helper()
	a := vsockEnd{peer: vsock.Local, peerPort: 20001, local: vsock.Local, localPort: 20002}
	b := vsockEnd{peer: vsock.Local, peerPort: 20002, local: vsock.Local, localPort: 20001}
	host, err := newVsock(systemVsock, a)
	if err != nil {
		t.Skipf("no AF_VSOCK here: %v", err)
	}
	probe, err := vsock.Dial(vsock.Local, 20002, nil)
	if err != nil {
		_ = host.Close()
		t.Skipf("no vsock loopback here: %v", err)
	}
	_ = probe.Close()
	if guest, err = newVsock(systemVsock, b); err != nil {
		t.Fatal(err)
	}
	return host, guest
}
