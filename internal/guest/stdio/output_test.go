package stdio

import (
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// deadOutput is the output of a process that has written n bytes and is dead.
func deadOutput(t *testing.T, n int) (*output, net.Conn) {
	t.Helper()
	from, process, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { from.Close() })
	near, far := net.Pipe()
	t.Cleanup(func() { far.Close() })
	o := newOutput(near, from)
	go o.copy()
	go func() {
		_, _ = process.Write(make([]byte, n))
		_ = process.Close()
	}()
	return o, far
}

func TestHostThatReadsNothing(t *testing.T) {
	o, _ := deadOutput(t, 300_000)
	ended := make(chan struct{})
	go func() {
		o.expire(0)
		o.await(20 * time.Millisecond)
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("a host that reads nothing holds a dead process up")
	}
}

// A host that reads slowly gets everything, though it takes longer than one
// that reads nothing is given.
func TestHostThatReadsSlowly(t *testing.T) {
	const size = 300_000
	o, far := deadOutput(t, size)
	got := make(chan int)
	go func() {
		total, buf := 0, make([]byte, 40_000)
		for {
			n, err := io.ReadFull(far, buf)
			total += n
			if err != nil {
				break
			}
			<-time.After(30 * time.Millisecond)
		}
		_ = far.Close()
		got <- total
	}()
	o.await(time.Second)
	_ = o.conn.Close()
	if n := <-got; n < size {
		t.Errorf("%d bytes arrive, want %d", n, size)
	}
}
