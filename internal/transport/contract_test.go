package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

const testPort = 4242

// TestContract holds every transport to the same promises, in both directions.
func TestContract(t *testing.T) {
	transports := map[string]func(testing.TB) (Session, Session){
		"mux": muxPair, "vsock over unix": vsockPair, "vsock": realVsockPair,
	}
	promises := map[string]func(*testing.T, Session, Session){
		"echo":                  testEcho,
		"unknown port":          testUnknownPort,
		"closed listener":       testClosedListener,
		"port taken":            testPortTaken,
		"dial waits for ctx":    testDialContext,
		"close ends everything": testCloseEnds,
		"close unblocks read":   testCloseUnblocksRead,
		"deadline":              testDeadline,
		"slow reader":           testSlowReader,
		"backlog":               testBacklog,
		"many":                  testMany,
		"peer close is EOF":     testPeerClose,
	}
	for name, pair := range transports {
		for promise, test := range promises {
			t.Run(name+"/"+promise, func(t *testing.T) {
				host, guest := pair(t)
				defer func() { _, _ = host.Close(), guest.Close() }()
				test(t, host, guest)
			})
			t.Run(name+" from guest/"+promise, func(t *testing.T) {
				host, guest := pair(t)
				defer func() { _, _ = host.Close(), guest.Close() }()
				test(t, guest, host)
			})
		}
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// connect returns both ends of a connection from a to b.
func connect(t testing.TB, a, b Session) (dialed, accepted net.Conn) {
	t.Helper()
	l := listen(t, b, testPort)
	dialed = dial(t, a, testPort)
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return dialed, accepted
}

func listen(t testing.TB, s Session, port uint32) net.Listener {
	t.Helper()
	l, err := s.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t testing.TB, s Session, port uint32) net.Conn {
	t.Helper()
	c, err := s.Dial(testContext(t), port)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testEcho(t *testing.T, a, b Session) {
	dialed, accepted := connect(t, a, b)
	go func() { _, _ = io.Copy(accepted, accepted) }()
	sent := make([]byte, 3<<20)
	_, _ = rand.Read(sent)
	go func() { _, _ = dialed.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(dialed, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent, got) {
		t.Fatal("other bytes came back")
	}
}

func testUnknownPort(t *testing.T, a, b Session) {
	listen(t, b, testPort)
	if _, err := a.Dial(testContext(t), testPort+1); !errors.Is(err, ErrRefused) {
		t.Fatalf("got %v, want ErrRefused", err)
	}
	dial(t, a, testPort)
}

func testClosedListener(t *testing.T, a, b Session) {
	l := listen(t, b, testPort)
	waiting := dial(t, a, testPort)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("accept: got %v, want net.ErrClosed", err)
	}
	if _, err := a.Dial(testContext(t), testPort); !errors.Is(err, ErrRefused) {
		t.Fatalf("dial: got %v, want ErrRefused", err)
	}
	if _, err := waiting.Read(make([]byte, 1)); err == nil {
		t.Fatal("a connection nobody accepted stays open")
	}
	listen(t, b, testPort)
}

func testPortTaken(t *testing.T, a, _ Session) {
	listen(t, a, testPort)
	if _, err := a.Listen(testPort); !errors.Is(err, os.ErrExist) {
		t.Fatalf("got %v, want os.ErrExist", err)
	}
}

func testDialContext(t *testing.T, a, b Session) {
	listen(t, b, testPort)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := a.Dial(ctx, testPort); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
	dial(t, a, testPort)
}

func testCloseEnds(t *testing.T, a, b Session) {
	dialed, accepted := connect(t, a, b)
	l := listen(t, a, testPort+1)
	accept := make(chan error, 1)
	go func() { _, err := l.Accept(); accept <- err }()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	<-a.Done()
	if err := <-accept; !errors.Is(err, ErrClosed) {
		t.Errorf("accept: got %v, want ErrClosed", err)
	}
	for _, c := range []net.Conn{dialed, accepted} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read succeeds after the session has ended")
		}
	}
	if _, err := a.Dial(testContext(t), testPort); !errors.Is(err, ErrClosed) {
		t.Errorf("dial: got %v, want ErrClosed", err)
	}
	if _, err := a.Listen(testPort + 2); !errors.Is(err, ErrClosed) {
		t.Errorf("listen: got %v, want ErrClosed", err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func testCloseUnblocksRead(t *testing.T, a, b Session) {
	dialed, _ := connect(t, a, b)
	read := make(chan error, 1)
	go func() { _, err := dialed.Read(make([]byte, 1)); read <- err }()
	if err := dialed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want an error that says closed", err)
	}
	if _, err := dialed.Write([]byte{1}); err == nil {
		t.Fatal("write succeeds after close")
	}
}

func testDeadline(t *testing.T, a, b Session) {
	dialed, accepted := connect(t, a, b)
	if err := dialed.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := dialed.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want os.ErrDeadlineExceeded", err)
	}
	if err := dialed.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := accepted.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if n, err := dialed.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("after the deadline was lifted: %d, %v", n, err)
	}
}

// testSlowReader fills one connection until it takes no more, and wants the
// others to go on.
func testSlowReader(t *testing.T, a, b Session) {
	stuck, _ := connect(t, a, b)
	if err := stuck.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var err error
	for chunk := make([]byte, 64<<10); err == nil; {
		_, err = stuck.Write(chunk)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want os.ErrDeadlineExceeded", err)
	}
	l := listen(t, b, testPort+1)
	free := dial(t, a, testPort+1)
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = free.Write(make([]byte, 4<<20)) }()
	if n, err := io.CopyN(io.Discard, other, 4<<20); err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
}

func testBacklog(t *testing.T, a, b Session) {
	listen(t, b, testPort)
	for range acceptBacklog {
		dial(t, a, testPort)
	}
	if _, err := a.Dial(testContext(t), testPort); !errors.Is(err, ErrRefused) {
		t.Fatalf("got %v, want ErrRefused", err)
	}
}

func testMany(t *testing.T, a, b Session) {
	l := listen(t, b, testPort)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 300 {
				c, err := a.Dial(testContext(t), testPort)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write([]byte("x"))
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Error(err)
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
}

func testPeerClose(t *testing.T, a, b Session) {
	dialed, accepted := connect(t, a, b)
	_, _ = accepted.Write([]byte("last words"))
	_ = accepted.Close()
	got, err := io.ReadAll(dialed)
	if err != nil || string(got) != "last words" {
		t.Fatalf("got %q, %v", got, err)
	}
	_ = dialed.Close()
}
