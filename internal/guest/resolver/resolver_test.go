package resolver

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dougong.dev/dougong/internal/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// address is one that is free on every loopback interface, with the same port
// for both protocols.
const address = "127.0.0.11:15353"

// host is the other end of a server's line.
func host(t *testing.T) net.Conn {
	t.Helper()
	a, b := net.Pipe()
	host, guest := transport.NewHost(a), transport.NewGuest(b)
	listener, err := guest.Listen(transport.PortResolver)
	if err != nil {
		t.Fatal(err)
	}
	server := Serve(listener, address)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		_, _ = host.Close(), guest.Close()
	})
	line, err := host.Dial(t.Context(), transport.PortResolver)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// answer answers questions, those that end in a dot after all others, and tells
// how they came.
func answer(t *testing.T, line net.Conn, late int) {
	t.Helper()
	say := func(q transport.Question) {
		kind := "udp "
		if q.TCP {
			kind = "tcp "
		}
		q.Message = append([]byte(kind), q.Message...)
		if err := transport.WriteQuestion(line, q); err != nil {
			t.Error(err)
		}
	}
	go func() {
		var kept []transport.Question
		for {
			q, err := transport.ReadQuestion(line)
			if err != nil {
				return
			}
			if !bytes.HasSuffix(q.Message, []byte(".")) {
				say(q)
				continue
			}
			if kept = append(kept, q); len(kept) == late {
				for i := range kept {
					say(kept[late-1-i])
				}
			}
		}
	}()
}

// dial connects to the server as soon as it listens.
func dial(t *testing.T, network string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		var d net.Dialer
		tcp, err := d.DialContext(ctx, "tcp4", address)
		if err == nil {
			if network == "tcp4" {
				t.Cleanup(func() { _ = tcp.Close() })
				return tcp
			}
			_ = tcp.Close()
			conn, err := d.DialContext(ctx, network, address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			return conn
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

func TestQuestionsAreAnsweredInAnyOrder(t *testing.T) {
	answer(t, host(t), 2)
	first, second := dial(t, "udp4"), dial(t, "udp4")
	var asking sync.WaitGroup
	for text, conn := range map[string]net.Conn{"one.": first, "two.": second} {
		asking.Go(func() {
			got := make([]byte, 100)
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.WriteString(conn, text); err != nil {
				t.Error(err)
			}
			n, err := conn.Read(got)
			if want := "udp " + text; string(got[:n]) != want || err != nil {
				t.Errorf("%q, %v, want %q", got[:n], err, want)
			}
		})
	}
	asking.Wait()
}

func TestConnectionWithSeveralQuestions(t *testing.T) {
	answer(t, host(t), 0)
	conn := dial(t, "tcp4")
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	for _, text := range []string{"first", string(bytes.Repeat([]byte("x"), 3000))} {
		framed := binary.BigEndian.AppendUint16(nil, uint16(len(text)))
		if _, err := conn.Write(append(framed, text...)); err != nil {
			t.Fatal(err)
		}
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "tcp "+text {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// TestEndOfTheLine gives the address back, and takes the next line.
func TestEndOfTheLine(t *testing.T) {
	line := host(t)
	conn := dial(t, "tcp4")
	_ = line.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlives the line")
	}
	for begin := time.Now(); ; {
		l, err := net.Listen("tcp4", address)
		if err == nil {
			_ = l.Close()
			return
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}
