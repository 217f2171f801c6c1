package qmp

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// Event is an asynchronous message of QEMU.
type Event struct {
	// Name is QEMU's name of the event, such as "SHUTDOWN".
	Name string
	// Data is the event's JSON object; nil when it has none.
	Data json.RawMessage
	// Time is QEMU's clock when the event happened.
	Time time.Time
}

// What may wait for one slow subscriber; older events give way to newer ones.
const (
	maxQueuedEvents = 1024
	maxQueuedBytes  = 1 << 20
)

// subscriber is a bounded queue between the reader, which never waits, and
// one receiver.
type subscriber struct {
	mu     sync.Mutex
	queue  []Event
	bytes  int
	closed bool

	wake chan struct{} // capacity 1
}

func newSubscriber() *subscriber {
	return &subscriber{wake: make(chan struct{}, 1)}
}

// push queues e and drops the oldest events that no longer fit.
func (s *subscriber) push(e Event) {
	s.mu.Lock()
	s.queue = append(s.queue, e)
	s.bytes += len(e.Data)
	for len(s.queue) > 1 && (len(s.queue) > maxQueuedEvents || s.bytes > maxQueuedBytes) {
		s.bytes -= len(s.queue[0].Data)
		s.queue[0] = Event{}
		s.queue = s.queue[1:]
	}
	s.mu.Unlock()
	s.signal()
}

// finish says that no further event comes; those queued are still given out.
func (s *subscriber) finish() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
}

func (s *subscriber) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// pop returns the oldest event. more is false when there will be none.
func (s *subscriber) pop() (e Event, ok, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return Event{}, false, !s.closed
	}
	e = s.queue[0]
	s.queue[0] = Event{}
	s.queue = s.queue[1:]
	s.bytes -= len(e.Data)
	return e, true, true
}

// pump hands events to out until there are no more or ctx ends.
func (s *subscriber) pump(ctx context.Context, out chan<- Event) {
	defer close(out)
	for {
		e, ok, more := s.pop()
		switch {
		case ok:
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		case !more:
			return
		default:
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			}
		}
	}
}
