package shim

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
)

const (
	// firstCall is how long a sandbox process waits for a container.
	firstCall = time.Minute
	// lastCall is how long one without a container waits for it to come back.
	lastCall = 5 * time.Second
)

// callers counts the connections to a sandbox process. One that has no container
// and gets none is of no use to anybody: its daemon died while it started a
// container, and knows nothing of it when it is back.
type callers struct {
	// needed reports whether the process has something to keep.
	needed func() bool
	// abandoned is called when it is of no use, perhaps more than once.
	abandoned func()
	// answers are those that they wait for.
	answers *answers

	mu    sync.Mutex
	count int
	timer *time.Timer
}

// watch begins to wait for the first connection.
func (c *callers) watch(limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wait(limit)
}

// wait must be called with mu held.
func (c *callers) wait(limit time.Duration) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(limit, func() {
		if c.needed() {
			c.watch(firstCall)
			return
		}
		c.abandoned()
	})
}

func (c *callers) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
}

func (c *callers) come() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	c.wait(firstCall)
}

func (c *callers) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count--
	if c.count == 0 {
		c.wait(lastCall)
	}
}

// hangUpTime is how long callers that have their answers may take to close their
// connections. containerd does so at once when a sandbox process is to end.
const hangUpTime = 500 * time.Millisecond

// hangUp waits until no caller is connected any more, but not for ever. A client
// of ttrpc that finds its connection closed may take no notice of the answer
// that came before.
func (c *callers) hangUp(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(flushLook)
	defer tick.Stop()
	for c.connected() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *callers) connected() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Handshake lets only callers of the same user in, and counts them.
func (c *callers) Handshake(ctx context.Context, conn net.Conn) (net.Conn, any, error) {
	conn, info, err := ttrpc.UnixSocketRequireSameUser().Handshake(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	c.come()
	return &caller{Conn: c.answers.watch(conn), left: sync.OnceFunc(c.leave)}, info, nil
}

// caller is a connection that tells when it is closed.
type caller struct {
	net.Conn
	left func()
}

// Close closes the connection.
func (c *caller) Close() error {
	defer c.left()
	return c.Conn.Close()
}
