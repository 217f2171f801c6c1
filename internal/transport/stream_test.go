package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func streamsPair(t *testing.T) (Session, *Streams) {
	host, guest := muxPair(t)
	s := NewStreams(listen(t, guest, PortStream))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		_, _ = host.Close(), guest.Close()
	})
	return host, s
}

func TestStreamsInAnyOrder(t *testing.T) {
	host, s := streamsPair(t)
	claimed := make(chan net.Conn, 1)
	go func() {
		c, err := s.Wait(testContext(t), "late")
		if err != nil {
			t.Error(err)
		}
		claimed <- c
	}()
	for _, id := range []string{"early", "late", strings.Repeat("x", maxStreamID)} {
		c, err := OpenStream(testContext(t), host, id)
		if err != nil {
			t.Fatal(err)
		}
		if id != "late" {
			go func() {
				c, err := s.Wait(testContext(t), id)
				if err != nil {
					t.Error(err)
				}
				claimed <- c
			}()
		}
		guest := <-claimed
		go func() { _, _ = io.WriteString(guest, id); _ = guest.Close() }()
		if got, err := io.ReadAll(c); string(got) != id || err != nil {
			t.Fatalf("stream %q carried %q, %v", id, got, err)
		}
	}
}

func TestStreamsBadIDs(t *testing.T) {
	host, s := streamsPair(t)
	for _, id := range []string{"", strings.Repeat("x", maxStreamID+1)} {
		if _, err := OpenStream(testContext(t), host, id); !errors.Is(err, ErrStreamID) {
			t.Errorf("id of %d bytes: %v", len(id), err)
		}
	}
	if _, err := OpenStream(testContext(t), host, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStream(testContext(t), host, "a"); !errors.Is(err, ErrRefused) {
		t.Errorf("second stream of one id: %v", err)
	}
	if _, err := s.Wait(testContext(t), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStream(testContext(t), host, "a"); err != nil {
		t.Errorf("id used again after it was claimed: %v", err)
	}
}

func TestStreamsWaitEnds(t *testing.T) {
	_, s := streamsPair(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := s.Wait(ctx, "never"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if n := len(s.pending); n != 0 {
		t.Fatalf("%d ids left behind", n)
	}
	waited := make(chan error, 1)
	go func() { _, err := s.Wait(context.Background(), "never"); waited <- err }()
	_ = s.Close()
	if err := <-waited; !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v, want ErrClosed", err)
	}
}

func FuzzStreamID(f *testing.F) {
	f.Add([]byte{3, 'a', 'b', 'c'})
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := readStreamID(bytes.NewReader(data))
		if err == nil && (id == "" || id != string(data[1:1+len(id)])) {
			t.Fatalf("%x read as %q", data, id)
		}
	})
}

func TestHello(t *testing.T) {
	want := Hello{
		Protocol: ProtocolVersion, AgentVersion: "1.2.3", Kernel: "6.1.0-38-cloud-amd64",
		Boot: []Timing{{Step: "init", Microseconds: 1400000}, {Step: "agent", Microseconds: 1600000}},
	}
	var line bytes.Buffer
	if err := SendHello(&line, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadHello(&line)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatal(err, diff)
	}
}

func TestHelloRefused(t *testing.T) {
	long := strings.Repeat("x", maxHelloText+1)
	for name, h := range map[string]Hello{
		"version":  {Protocol: ProtocolVersion + 1},
		"long":     {Protocol: ProtocolVersion, Kernel: long},
		"control":  {Protocol: ProtocolVersion, AgentVersion: "\x1b[2J"},
		"timings":  {Protocol: ProtocolVersion, Boot: make([]Timing, maxTimings+1)},
		"too much": {Protocol: ProtocolVersion, Kernel: strings.Repeat("x", maxHello)},
	} {
		var line bytes.Buffer
		if err := SendHello(&line, h); errors.Is(err, ErrHello) {
			continue
		}
		if _, err := ReadHello(&line); !errors.Is(err, ErrHello) {
			t.Errorf("%s: got %v, want ErrHello", name, err)
		}
	}
}

func FuzzHello(f *testing.F) {
	var line bytes.Buffer
	_ = SendHello(&line, Hello{Protocol: ProtocolVersion, Kernel: "6.1"})
	f.Add(line.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ReadHello(bytes.NewReader(data))
		if err == nil && h.validate() != nil {
			t.Fatalf("an invalid hello was read: %+v", h)
		}
	})
}

// FuzzForward reads where a connection is to lead to.
func FuzzForward(f *testing.F) {
	f.Add([]byte("\x0e127.0.0.1:8080"))
	f.Add([]byte("\x08[::1]:80"))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := net.Pipe()
		go func() { _, _ = b.Write(data); _ = b.Close() }()
		address, err := AcceptForward(a)
		_ = a.Close()
		if err == nil && (!address.IsValid() || address.Port() == 0) {
			t.Fatalf("%x read as %v", data, address)
		}
	})
}
