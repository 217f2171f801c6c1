package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Greeting is what QEMU says of itself when the connection opens.
type Greeting struct {
	Version struct {
		QEMU struct {
			Major int `json:"major"`
			Minor int `json:"minor"`
			Micro int `json:"micro"`
		} `json:"qemu"`
		Package string `json:"package"`
	} `json:"version"`
	Capabilities []string `json:"capabilities"`
}

// Client is one QMP connection. All methods may be called at the same time.
type Client struct {
	conn    net.Conn
	greeted chan Greeting // capacity 1
	writing chan struct{} // capacity 1: held while a command is written
	done    chan struct{}

	mu          sync.Mutex
	waiters     map[uint64]chan *message
	nextID      uint64
	subscribers map[*subscriber]struct{}
	cause       error // why the connection ended; nil while it lives
}

// New takes over conn and starts to read it. The caller must Close the client.
func New(conn net.Conn) *Client {
	c := &Client{
		conn:        conn,
		greeted:     make(chan Greeting, 1),
		writing:     make(chan struct{}, 1),
		done:        make(chan struct{}),
		waiters:     make(map[uint64]chan *message),
		subscribers: make(map[*subscriber]struct{}),
	}
	go c.read()
	return c
}

// Handshake waits for the greeting and leaves negotiation mode. It must be
// called once and before any command. Subscribe to events before it to miss
// none: QEMU sends events only after it.
func (c *Client) Handshake(ctx context.Context) (Greeting, error) {
	select {
	case g := <-c.greeted:
		return g, c.Execute(ctx, "qmp_capabilities", nil, nil)
	case <-c.done:
		return Greeting{}, fmt.Errorf("qmp handshake: %w", c.Err())
	case <-ctx.Done():
		return Greeting{}, fmt.Errorf("qmp handshake: %w", context.Cause(ctx))
	}
}

// Events returns the events from now on. The channel is closed when the
// connection has ended and everything was received, or when ctx ends; one of
// both must happen. A receiver that falls far behind loses the oldest events.
func (c *Client) Events(ctx context.Context) <-chan Event {
	s := newSubscriber()
	c.mu.Lock()
	if c.cause != nil {
		s.closed = true
	} else {
		c.subscribers[s] = struct{}{}
	}
	c.mu.Unlock()
	out := make(chan Event)
	go func() {
		s.pump(ctx, out)
		c.mu.Lock()
		delete(c.subscribers, s)
		c.mu.Unlock()
	}()
	return out
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the connection ended: ErrClosed after Close, io.EOF when QEMU
// closed it, else what broke it. It is nil before Done is closed.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Close ends the connection; commands under way return ErrClosed. It may be
// called more than once.
func (c *Client) Close() error {
	c.end(ErrClosed)
	return nil
}

// end closes everything once, with its cause.
func (c *Client) end(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause = cause
	c.waiters = nil
	for s := range c.subscribers {
		s.finish()
	}
	c.conn.Close()
	close(c.done)
}

// read takes messages off the connection until it ends. It waits for nobody.
func (c *Client) read() {
	r := newReader(c.conn, maxMessage)
	for {
		m, err := r.next()
		if err == nil {
			err = c.dispatch(m)
		}
		if err != nil {
			c.end(readCause(err))
			return
		}
	}
}

// readCause makes an end within a message an ordinary end.
func readCause(err error) error {
	if peerClosed(err) {
		return io.EOF
	}
	return fmt.Errorf("read from QEMU: %w", err)
}

// peerClosed says that QEMU has closed its end, be it with commands unread.
func peerClosed(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// dispatch hands a message to whom it concerns.
func (c *Client) dispatch(m *message) error {
	switch {
	case m.Greeting != nil:
		select {
		case c.greeted <- *m.Greeting:
		default: // a second greeting means nothing
		}
	case m.Event != "":
		c.publish(m)
	case m.Return != nil || m.Error != nil:
		return c.reply(m)
	default:
		return errors.New("message is neither greeting, reply nor event")
	}
	return nil
}

func (c *Client) publish(m *message) {
	at := time.Unix(m.Timestamp.Seconds, 0).Add(time.Duration(m.Timestamp.Microseconds) * time.Microsecond)
	e := Event{Name: m.Event, Data: m.Data, Time: at}
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.subscribers {
		s.push(e)
	}
}

// reply wakes the waiter of a command. One without an id answers something
// that QEMU could not parse, so that no command can be matched any more.
func (c *Client) reply(m *message) error {
	if m.ID == nil {
		if m.Error != nil {
			return m.Error.toError()
		}
		return errors.New("reply without an id")
	}
	var id uint64
	if err := json.Unmarshal(m.ID, &id); err != nil {
		return fmt.Errorf("reply with a foreign id: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w, ok := c.waiters[id]; ok {
		delete(c.waiters, id)
		w <- m // capacity 1, and only one reply is ever let through
	}
	return nil
}
