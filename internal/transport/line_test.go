package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func TestLine(t *testing.T) {
	host, guest := net.Pipe()
	offered := make(chan error, 1)
	go func() { offered <- NewStillLine(guest).Offer() }()
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

// TestStillLine begins a session before the line is offered: nothing of it is
// to be seen on the line before that is taken.
func TestStillLine(t *testing.T) {
	host, guest := net.Pipe()
	still := NewStillLine(guest)
	session := NewGuest(still)
	defer session.Close()
	dialed := make(chan error, 1)
	go func() {
		conn, err := session.Dial(t.Context(), PortReady)
		if err == nil {
			_, err = conn.Write([]byte("hello"))
		}
		dialed <- err
	}()
	go func() { _ = still.Offer() }()
	if err := AwaitLine(host); err != nil {
		t.Fatal(err)
	}
	if err := host.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := host.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes on a line that was not taken, %v", n, err)
	}
	if err := host.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	other := NewHost(host)
	defer other.Close()
	listener, err := other.Listen(PortReady)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.Write([]byte{lineTaken}); err != nil {
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
	if err := still.Offer(); err == nil {
		t.Error("no error from a line that ended")
	}
	if err := <-read; err == nil {
		t.Error("no error from reading it")
	}
	if _, err := still.Write([]byte{1}); err == nil {
		t.Error("no error from writing to it")
	}
}
