package transport

import (
	"errors"
	"net"
	"testing"
)

func TestLine(t *testing.T) {
	host, guest := net.Pipe()
	offered := make(chan error, 1)
	go func() { offered <- OfferLine(guest) }()
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
