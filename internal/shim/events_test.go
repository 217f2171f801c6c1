package shim

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// daemon is as much of containerd as takes events.
type daemon struct {
	mu       sync.Mutex
	refuse   map[string]bool
	tries    int
	received chan string
	server   *ttrpc.Server
}

func (d *daemon) Forward(_ context.Context, r *events.ForwardRequest) (*emptypb.Empty, error) {
	var e apievents.TaskExit
	if err := proto.Unmarshal(r.Envelope.Event.Value, &e); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse[e.ContainerID] {
		d.tries++
		return nil, errors.New("no")
	}
	if r.Envelope.Namespace != "ns" || r.Envelope.Event.TypeUrl != "containerd.events.TaskExit" || r.Envelope.Timestamp.AsTime().IsZero() {
		return nil, errors.New("bad envelope")
	}
	d.received <- e.ContainerID
	return &emptypb.Empty{}, nil
}

func startDaemon(t *testing.T, path string) *daemon {
	t.Helper()
	return startDaemonInto(t, path, make(chan string, 100))
}

func startDaemonInto(t *testing.T, path string, received chan string) *daemon {
	t.Helper()
	d := &daemon{received: received}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if d.server, err = ttrpc.NewServer(); err != nil {
		t.Fatal(err)
	}
	events.RegisterTTRPCEventsService(d.server, d)
	go func() { _ = d.server.Serve(context.Background(), listener) }()
	t.Cleanup(func() { _ = d.server.Close() })
	return d
}

func publisherFor(t *testing.T, namespace, address string) *publisher {
	t.Helper()
	p := newPublisher(namespace, address)
	t.Cleanup(p.close)
	return p
}

func exit(id string) *apievents.TaskExit { return &apievents.TaskExit{ContainerID: id} }

func TestEventsArriveInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	d := startDaemon(t, path)
	p := publisherFor(t, "ns", "unix://"+path)
	for i := range 50 {
		p.publish(topicExit, exit(strconv.Itoa(i)))
	}
	for i := range 50 {
		if got := await(t, d.received, "event"); got != strconv.Itoa(i) {
			t.Fatalf("event %d is %s", i, got)
		}
	}
	p.flush(t.Context())
}

func TestEventsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first := startDaemon(t, path)
	p := publisherFor(t, "ns", path)
	p.publish(topicExit, exit("0"))
	await(t, first.received, "event")
	_ = first.server.Close()
	for _, id := range []string{"1", "2", "3"} {
		p.publish(topicExit, exit(id))
	}
	// One channel for both: what the first took while it closed counts too.
	second := startDaemonInto(t, path, first.received)
	wantAfter(t, second.received, "0", "1", "2", "3")
}

// wantAfter awaits events that follow the last one. Each may come again right
// after itself: of a daemon that dies with an answer on its way, nobody knows
// what it has taken.
func wantAfter(t *testing.T, received <-chan string, last string, want ...string) {
	t.Helper()
	for _, id := range want {
		got := await(t, received, "event")
		for got == last {
			got = await(t, received, "event")
		}
		if got != id {
			t.Errorf("got %s, want %s", got, id)
		}
		last = got
	}
}

func TestRefusedEventIsDropped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	d := startDaemon(t, path)
	d.refuse = map[string]bool{"bad": true}
	p := publisherFor(t, "ns", path)
	p.publish(topicExit, exit("bad"))
	p.publish(topicExit, exit("good"))
	if got := await(t, d.received, "event"); got != "good" {
		t.Errorf("got %s", got)
	}
	if d.tries != refusals {
		t.Errorf("tried %d times", d.tries)
	}
}

func TestQueueIsBounded(t *testing.T) {
	p := publisherFor(t, "ns", filepath.Join(t.TempDir(), "none"))
	for i := range queueLimit + 10 {
		p.publish(topicExit, exit(strconv.Itoa(i)))
	}
	if n := len(p.queue); n != queueLimit {
		t.Errorf("%d events wait", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	p.flush(ctx)
	if ctx.Err() == nil {
		t.Error("flush does not wait for events that cannot leave")
	}
}

func TestPublisherWithoutDaemon(t *testing.T) {
	p := publisherFor(t, "ns", "")
	p.publish(topicExit, exit("1"))
	p.flush(t.Context())
}

func TestExecsEndBeforeTheirInit(t *testing.T) {
	l := newLife("c1", nil)
	if err := l.beginExec(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		l.end()
		close(ended)
	}()
	// Once the init has ended, nothing may be started any more.
	for l.beginExec() == nil {
		l.execs.Done()
	}
	select {
	case <-ended:
		t.Error("the init's exit does not wait for that of its exec")
	default:
	}
	l.execs.Done()
	await(t, ended, "end")
}
