package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dougong.dev/dougong/internal/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is the other end of a server's line.
func host(t *testing.T) transport.Session {
	t.Helper()
	a, b := net.Pipe()
	host, guest := transport.NewHost(a), transport.NewGuest(b)
	listener, err := guest.Listen(transport.PortForward)
	if err != nil {
		t.Fatal(err)
	}
	server := Serve(listener)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		_, _ = host.Close(), guest.Close()
	})
	return host
}

// serveAt runs a server at an address for each connection.
func serveAt(t *testing.T, address string, serve func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn.(*net.TCPConn))
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// echo answers what it was sent once all of it is there.
func echo(conn *net.TCPConn) {
	defer conn.Close()
	data, err := io.ReadAll(conn)
	if err == nil {
		_, _ = fmt.Fprintf(conn, "%d bytes", len(data))
	}
}

// client is a TCP connection whose other end is relayed to an address, as the
// sandbox does it.
func client(t *testing.T, session transport.Session, address netip.AddrPort) (*net.TCPConn, <-chan error) {
	t.Helper()
	ends := make(chan error, 1)
	// A reset that comes before Dial returns is Dial's error and nobody's to read.
	dialled := make(chan struct{})
	front := serveAt(t, "127.0.0.1:0", func(tcp *net.TCPConn) {
		<-dialled
		conn, err := transport.OpenForward(context.Background(), session, address)
		if err != nil {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
			ends <- err
			return
		}
		ends <- transport.Relay(tcp, conn)
	})
	conn, err := net.Dial("tcp", front.String())
	close(dialled)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn.(*net.TCPConn), ends
}

// TestHalfClose: who has said all there is to say can still listen.
func TestHalfClose(t *testing.T) {
	session := host(t)
	for _, size := range []int{0, 1, 3 << 20} {
		conn, ends := client(t, session, serveAt(t, "127.0.0.1:0", echo))
		if _, err := io.Copy(conn, io.LimitReader(strings.NewReader(strings.Repeat("x", size)), int64(size))); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if want := fmt.Sprintf("%d bytes", size); string(got) != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
}

// TestServerSpeaksFirst, and ends first.
func TestServerSpeaksFirst(t *testing.T) {
	session := host(t)
	conn, ends := client(t, session, serveAt(t, "127.0.0.1:0", func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "banner")
		_ = c.CloseWrite()
		data, _ := io.ReadAll(c)
		if string(data) != "late" {
			t.Errorf("the server reads %q", data)
		}
		_ = c.Close()
	}))
	if got, err := io.ReadAll(conn); string(got) != "banner" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := io.WriteString(conn, "late"); err != nil {
		t.Error(err)
	}
	_ = conn.CloseWrite()
	if err := <-ends; err != nil {
		t.Error(err)
	}
}

// TestReset: a server that breaks off breaks the client's connection too.
func TestReset(t *testing.T) {
	session := host(t)
	conn, ends := client(t, session, serveAt(t, "127.0.0.1:0", func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
		_ = c.Close()
	}))
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client reads %v", err)
	}
	if err := <-ends; err == nil {
		t.Error("the end counts as a good one")
	}
}

func TestRefused(t *testing.T) {
	session := host(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().(*net.TCPAddr).AddrPort()
	_ = l.Close()
	begin := time.Now()
	conn, ends := client(t, session, nobody)
	if err := <-ends; !errors.Is(err, transport.ErrRefused) {
		t.Errorf("error is %v", err)
	}
	if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client reads %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestOtherFamily: localhost is either.
func TestOtherFamily(t *testing.T) {
	session := host(t)
	for _, families := range [][2]string{{"127.0.0.1", "[::1]:0"}, {"::1", "127.0.0.1:0"}} {
		server := serveAt(t, families[1], echo)
		conn, _ := client(t, session, netip.AddrPortFrom(netip.MustParseAddr(families[0]), server.Port()))
		_ = conn.CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != "0 bytes" || err != nil {
			t.Errorf("by %s: %q, %v", families[0], got, err)
		}
	}
}

// TestNonsense is turned away, and the next connection is served.
func TestNonsense(t *testing.T) {
	session := host(t)
	for _, header := range []string{"\x00", "\x03abc", "\x0b127.0.0.1:0", "\x07[::1]:x", "\x0e[fe80::1%lo]:1"} {
		conn, err := session.Dial(t.Context(), transport.PortForward)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, header); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); len(got) > 0 || errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("%q is answered by %q, %v", header, got, err)
		}
		_ = conn.Close()
	}
	conn, _ := client(t, session, serveAt(t, "127.0.0.1:0", echo))
	_ = conn.CloseWrite()
	if got, _ := io.ReadAll(conn); string(got) != "0 bytes" {
		t.Errorf("after nonsense: %q", got)
	}
}

// TestCloseEndsConnections that nobody else would end.
func TestCloseEndsConnections(t *testing.T) {
	a, b := net.Pipe()
	session, guest := transport.NewHost(a), transport.NewGuest(b)
	defer guest.Close()
	defer session.Close()
	listener, err := guest.Listen(transport.PortForward)
	if err != nil {
		t.Fatal(err)
	}
	server := Serve(listener)
	conn, ends := client(t, session, serveAt(t, "127.0.0.1:0", echo))
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ends:
		t.Fatalf("it has ended before: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ends; err == nil {
		t.Error("the end counts as a good one")
	}
}
