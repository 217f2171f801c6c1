package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// A virtual machine takes seconds to boot, and QEMU holds the host's bytes
// meanwhile.
func TestMuxDialBeforeGuest(t *testing.T) {
	a, b := socketPair(t)
	host := NewHost(a)
	defer func() { _ = host.Close() }()
	dialed := make(chan error, 1)
	go func() {
		_, err := host.Dial(testContext(t), testPort)
		dialed <- err
	}()
	select {
	case err := <-dialed:
		t.Fatalf("dial ended before there was a guest: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	// A session answers from its start, so listeners must be quicker than the
	// host's header: this is why guests announce themselves with a Hello.
	guest := NewGuest(b)
	defer func() { _ = guest.Close() }()
	if _, err := guest.Listen(testPort); err != nil {
		t.Fatal(err)
	}
	if err := <-dialed; err != nil && !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
}

func TestMuxDialGivesUp(t *testing.T) {
	a, b := socketPair(t)
	defer func() { _ = b.Close() }()
	host := NewHost(a)
	defer func() { _ = host.Close() }()
	for range 2 * maxDials {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		if _, err := host.Dial(ctx, testPort); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want a deadline", err)
		}
		cancel()
	}
}

func TestMuxEndsWithLine(t *testing.T) {
	a, b := socketPair(t)
	host := NewHost(a)
	_ = b.Close()
	select {
	case <-host.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the session outlives its line")
	}
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
}

// frame is a header of yamux, version 0.
func frame(kind byte, flags uint16, stream, length uint32) []byte {
	b := []byte{0, kind}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, length)
}

// A hostile guest must not be able to make the host hold memory.
func TestMuxHostilePeer(t *testing.T) {
	const windowUpdate = 1
	attacks := map[string]func(w io.Writer){
		"pings": func(w io.Writer) {
			for i := range uint32(10000) {
				_, _ = w.Write(frame(framePing, frameFlagSYN, 0, i))
			}
		},
		"half-open connections": func(w io.Writer) {
			for i := range uint32(10000) {
				_, _ = w.Write(frame(windowUpdate, frameFlagSYN, 2+2*i, 0))
			}
		},
		"garbage":       func(w io.Writer) { _, _ = w.Write([]byte("\xff\xfe\xfd12345678901234567890")) },
		"beyond window": func(w io.Writer) { _, _ = w.Write(frame(frameData, frameFlagSYN, 2, 1<<31)) },
		"duplicate": func(w io.Writer) {
			_, _ = w.Write(append(frame(windowUpdate, 1, 2, 0), frame(windowUpdate, 1, 2, 0)...))
		},
	}
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			a, b := socketPair(t)
			host := NewHost(a)
			defer func() { _ = host.Close() }()
			go func() { _, _ = io.Copy(io.Discard, b) }()
			attack(b)
			select {
			case <-host.Done():
			case <-time.After(10 * time.Second):
				t.Error("the host goes on with a hostile peer")
			}
			_ = b.Close()
		})
	}
}

func FuzzGuard(f *testing.F) {
	f.Add(frame(framePing, 1, 0, 0), 3)
	f.Add(append(frame(frameData, 0, 1, 4), []byte("abcd\x00\x02")...), 5)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		whole, parts := &guard{}, &guard{}
		want := whole.inspect(data)
		cut = min(max(cut, 0), len(data))
		got := parts.inspect(data[:cut])
		if got == nil {
			got = parts.inspect(data[cut:])
		}
		if !errors.Is(got, want) {
			t.Fatalf("in two parts %v, at once %v", got, want)
		}
	})
}

// A stranger's connection never reaches a listener.
func TestVsockStranger(t *testing.T) {
	dir := t.TempDir()
	guest, err := newVsock(unixVsock(dir, 77), vsockEnd{peer: 2, peerPort: 77, local: 77, localPort: guestVsockPort})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = guest.Close() }()
	listen(t, guest, testPort)
	conn, err := unixVsock(dir, 78).dial(testContext(t), 77, guestVsockPort)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write(appendHeader(nil, testPort))
	if err := readVerdict(conn); err == nil {
		t.Fatal("a stranger was let in")
	}
}

// The guest of a vsock session may come late.
func TestVsockDialBeforeGuest(t *testing.T) {
	dir := t.TempDir()
	host, err := newVsock(unixVsock(dir, 2), vsockEnd{peer: 77, peerPort: guestVsockPort, local: 2, localPort: 77})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = host.Close() }()
	dialed := make(chan error, 1)
	go func() {
		_, err := host.Dial(testContext(t), testPort)
		dialed <- err
	}()
	l, err := unixVsock(dir, 77).listen(77, guestVsockPort)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if port, err := readHeader(conn); err != nil || port != testPort {
		t.Fatalf("header: %d, %v", port, err)
	}
	_, _ = conn.Write([]byte{verdictAccepted})
	if err := <-dialed; err != nil {
		t.Fatal(err)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(appendHeader(nil, 1025))
	f.Add([]byte{headerMagic, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := net.Pipe()
		go func() { _, _ = b.Write(data); _ = b.Close() }()
		port, err := readHeader(a)
		_ = a.Close()
		if err == nil && string(appendHeader(nil, port)) != string(data[:headerSize]) {
			t.Fatalf("%x read as port %d", data, port)
		}
	})
}
