package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// noRehearsal is for lines of which none is asked.
func noRehearsal(*Rehearsal) error { return errors.New("nobody asked for a rehearsal") }

func TestLine(t *testing.T) {
	host, guest := net.Pipe()
	offered := make(chan error, 1)
	go func() { offered <- NewStillLine(guest).Offer(noRehearsal) }()
	if err := AwaitLine(host); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-offered:
		t.Fatalf("the guest goes on before its line is taken: %v", err)
	default:
	}
	if err := TakeLine(host); err != nil {
		t.Fatal(err)
	}
	if err := <-offered; err != nil {
		t.Fatal(err)
	}
}

func TestLineRefusesNoise(t *testing.T) {
	host, guest := net.Pipe()
	go func() { _, _ = guest.Write([]byte{'x'}) }()
	if err := AwaitLine(host); !errors.Is(err, errLine) {
		t.Errorf("error = %v", err)
	}
	_ = guest.Close()
	if err := AwaitLine(host); err == nil {
		t.Error("no error from a line that has ended")
	}
}

// TestStillLine writes to a line before it is offered: nothing of that is to be
// seen before it is taken.
func TestStillLine(t *testing.T) { synctest.Test(t, testStillLine) }

func testStillLine(t *testing.T) {
	host, guest := net.Pipe()
	still := NewStillLine(guest)
	go func() { _, _ = still.Write([]byte("hello")) }()
	go func() { _ = still.Offer(noRehearsal) }()
	if err := AwaitLine(host); err != nil {
		t.Fatal(err)
	}
	// The minute passes when all of the guest waits.
	if err := host.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := host.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes on a line that was not taken, %v", n, err)
	}
	if err := host.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := TakeLine(host); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.LimitReader(host, 5)); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestSessionOverStillLine begins a session and dials before the line is
// offered.
func TestSessionOverStillLine(t *testing.T) {
	near, far := net.Pipe()
	still := NewStillLine(far)
	guest := NewGuest(still)
	defer guest.Close()
	dialed := make(chan error, 1)
	go func() {
		conn, err := guest.Dial(t.Context(), PortReady)
		if err == nil {
			_, err = conn.Write([]byte("hello"))
		}
		dialed <- err
	}()
	go func() { _ = still.Offer(noRehearsal) }()
	if err := AwaitLine(near); err != nil {
		t.Fatal(err)
	}
	host := NewHost(near)
	defer host.Close()
	// Whoever takes the line listens before.
	listener, err := host.Listen(PortReady)
	if err != nil {
		t.Fatal(err)
	}
	if err := TakeLine(near); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.LimitReader(conn, 5)); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-dialed; err != nil {
		t.Error(err)
	}
}

// TestStillLineThatIsNotTaken ends what waits for it.
func TestStillLineThatIsNotTaken(t *testing.T) {
	host, guest := net.Pipe()
	still := NewStillLine(guest)
	read := make(chan error, 1)
	go func() {
		_, err := still.Read(make([]byte, 1))
		read <- err
	}()
	go func() { _ = AwaitLine(host); _ = host.Close() }()
	if err := still.Offer(noRehearsal); err == nil {
		t.Error("no error from a line that ended")
	}
	if err := <-read; err == nil {
		t.Error("no error from reading it")
	}
	if _, err := still.Write([]byte{1}); err == nil {
		t.Error("no error from writing to it")
	}
}
