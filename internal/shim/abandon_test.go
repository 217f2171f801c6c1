package shim

import (
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

func newCallers(needed *atomic.Bool) (*callers, chan struct{}) {
	abandoned := make(chan struct{}, 9)
	return &callers{needed: needed.Load, abandoned: func() { abandoned <- struct{}{} }, answers: &answers{}}, abandoned
}

func TestNobodyCalls(t *testing.T) {
	var needed atomic.Bool
	c, abandoned := newCallers(&needed)
	c.watch(time.Millisecond)
	await(t, abandoned, "nobody calls")
}

func TestWhatIsNeededStays(t *testing.T) {
	var needed atomic.Bool
	needed.Store(true)
	c, abandoned := newCallers(&needed)
	asked := make(chan struct{}, 9)
	c.needed = func() bool {
		asked <- struct{}{}
		return needed.Load()
	}
	c.watch(time.Millisecond)
	await(t, asked, "question")
	if len(abandoned) > 0 {
		t.Error("a process with a container ends")
	}
	c.stop()
}

func TestCallersAreCounted(t *testing.T) {
	var needed atomic.Bool
	c, abandoned := newCallers(&needed)
	c.watch(time.Hour)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var served []net.Conn
	for range 2 {
		client, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		counted, _, err := c.Handshake(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		served = append(served, counted)
	}
	served[0].Close()
	served[0].Close()
	if c.count != 1 || len(abandoned) != 0 {
		t.Errorf("%d callers are counted", c.count)
	}
	served[1].Close()
	await(t, abandoned, "the last caller has gone")
}

// TestHangUp waits for callers, and not for those who stay.
func TestHangUp(t *testing.T) {
	var needed atomic.Bool
	c, _ := newCallers(&needed)
	defer c.stop()
	c.come()
	gone := make(chan struct{}, 1)
	go func() {
		c.hangUp(t.Context(), time.Minute)
		gone <- struct{}{}
	}()
	select {
	case <-gone:
		t.Error("it has not waited for a caller that is connected")
	case <-time.After(20 * flushLook):
	}
	c.leave()
	await(t, gone, "the end of the wait")
	c.come()
	c.hangUp(t.Context(), time.Millisecond)
	if c.connected() != 1 {
		t.Error("who stays is not counted")
	}
}

func TestCallersStop(t *testing.T) {
	var needed atomic.Bool
	c, _ := newCallers(&needed)
	c.watch(time.Hour)
	c.stop()
	if c.timer.Stop() {
		t.Error("it is still waited for")
	}
}
