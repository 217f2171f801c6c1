package qmp

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

// endless is a peer that never stops sending one string.
type endless struct{ started bool }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	if !e.started {
		e.started = true
		return copy(p, `{"event":"`), nil
	}
	return len(p), nil
}

func TestReaderRefusesEndlessMessage(t *testing.T) {
	const limit = 1 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := newReader(&endless{}, limit).next()
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "exceeds the limit") {
		t.Fatalf("err = %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 16*limit {
		t.Errorf("took %d bytes to refuse a message over %d", used, limit)
	}
}

func TestReaderLimitIsPerMessage(t *testing.T) {
	line := `{"event":"E","data":{"x":"` + strings.Repeat("y", 600) + `"}}` + "\n"
	r := newReader(strings.NewReader(strings.Repeat(line, 20)), 1000)
	n := 0
	for {
		m, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || m.Event != "E" {
			t.Fatalf("message %d: %+v, %v", n, m, err)
		}
		n++
	}
	if n != 20 {
		t.Errorf("%d messages, want 20", n)
	}
}

func TestErrorTextIsClipped(t *testing.T) {
	e := &wireError{Class: strings.Repeat("c", 2*maxDesc), Desc: strings.Repeat("d", 2*maxDesc)}
	if got := e.toError(); len(got.Class) != maxDesc || len(got.Desc) != maxDesc {
		t.Errorf("kept %d and %d bytes", len(got.Class), len(got.Desc))
	}
}

func TestSubscriberKeepsTheNewest(t *testing.T) {
	s := newSubscriber()
	for range 3 * maxQueuedEvents {
		s.push(Event{Name: "OLD"})
	}
	s.push(Event{Name: "NEW"})
	if len(s.queue) != maxQueuedEvents || s.queue[len(s.queue)-1].Name != "NEW" {
		t.Errorf("%d events, last %q", len(s.queue), s.queue[len(s.queue)-1].Name)
	}
	big := Event{Name: "BIG", Data: bytes.Repeat([]byte("x"), maxQueuedBytes)}
	s.push(big)
	s.push(big)
	if len(s.queue) != 1 || s.bytes != maxQueuedBytes {
		t.Errorf("%d events of %d bytes", len(s.queue), s.bytes)
	}
	s.finish()
	if e, ok, _ := s.pop(); !ok || e.Name != "BIG" {
		t.Errorf("pop = %q, %v", e.Name, ok)
	}
	if _, ok, more := s.pop(); ok || more || s.bytes != 0 {
		t.Errorf("pop = %v, %v with %d bytes", ok, more, s.bytes)
	}
}

func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		`{"QMP":{"version":{"qemu":{"micro":0,"minor":2,"major":7}},"capabilities":[]}}`,
		`{"return":{},"id":1}`,
		`{"id":2,"error":{"class":"GenericError","desc":"x"}}`,
		`{"timestamp":{"seconds":1,"microseconds":2},"event":"STOP"}`,
		`{"event":"E","data":[[[[`,
		"\x00\xff", `{"return":null}`, `{"timestamp":{"seconds":1e99}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 256
		c := &Client{
			greeted:     make(chan Greeting, 1),
			waiters:     map[uint64]chan *message{1: make(chan *message, 1)},
			subscribers: map[*subscriber]struct{}{newSubscriber(): {}},
		}
		r := newReader(bytes.NewReader(data), limit)
		for {
			m, err := r.next()
			if err != nil {
				return
			}
			if len(m.Data) > 2*limit || len(m.Return) > 2*limit {
				t.Fatalf("let %d + %d bytes through", len(m.Data), len(m.Return))
			}
			if c.dispatch(m) != nil {
				return
			}
		}
	})
}
