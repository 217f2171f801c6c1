package network

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dial connects from inside of a namespace.
func (n *Namespace) dial(address string) (conn net.Conn, err error) {
	err = n.Do(func() error {
		var d net.Dialer
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn, err = d.DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

func TestLoopback(t *testing.T) {
	n := newNamespace(t)
	inside(t, n, "ip link set lo up")
	l, err := n.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"127.0.0.1:1", "127.0.0.1:8080", "[::1]:8080", "127.0.0.1:65535"} {
		near, err := n.dial(address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := far.LocalAddr().String(); got != address {
			t.Errorf("a connection to %s is taken for one to %s", address, got)
		}
		if _, err := near.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		_ = near.Close()
		_ = far.Close()
	}
	// Other addresses are not ours, nor is another namespace.
	inside(t, n, "ip addr add 10.1.0.1/32 dev lo; ip addr add fd01::1/128 dev lo")
	for _, address := range []string{"10.1.0.1:8080", "[fd01::1]:8080", "127.0.0.2:8080"} {
		if conn, err := n.dial(address); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v, %v", address, conn, err)
		}
	}
	other := newNamespace(t)
	inside(t, other, "ip link set lo up")
	if conn, err := other.dial("127.0.0.1:8080"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("in another namespace: %v, %v", conn, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	for _, address := range []string{"127.0.0.1:8080", "[::1]:8080"} {
		if conn, err := n.dial(address); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("after the end: %s: %v, %v", address, conn, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestLoopbackTwice: a second sandbox process, such as one after a crash of the
// first, finds nothing in its way.
func TestLoopbackTwice(t *testing.T) {
	n := newNamespace(t)
	inside(t, n, "ip link set lo up")
	for range 3 {
		l, err := n.Loopback()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := n.dial("127.0.0.1:80")
		if err != nil {
			t.Error(err)
		} else {
			_ = conn.Close()
		}
		// One that nobody has accepted goes too.
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLoopbackThatIsDown can be taken over: it may be brought up later.
func TestLoopbackThatIsDown(t *testing.T) {
	n := newNamespace(t)
	l, err := n.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	inside(t, n, "ip link set lo up")
	for _, address := range []string{"127.0.0.1:80", "[::1]:80"} {
		conn, err := n.dial(address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
}
