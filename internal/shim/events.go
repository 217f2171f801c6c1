package shim

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"dougong.dev/dougong/internal/rpcerr"
)

const (
	// queueLimit bounds the events kept while containerd is away.
	queueLimit = 4096
	// forwardTimeout bounds one call.
	forwardTimeout = 5 * time.Second
	// retryTime is the pause before containerd is tried again.
	retryTime = 250 * time.Millisecond
	// refusals is how often an event may be refused before it is dropped.
	refusals = 5
)

// publisher sends events to containerd, in order and each until it has
// arrived, for containerd may be away for a while.
type publisher struct {
	namespace, address string
	// wake tells of a new event, quit that no more are to be sent; idle is
	// closed whenever none is left.
	wake, quit chan struct{}

	mu    sync.Mutex
	queue []*types.Envelope
	idle  chan struct{}
	conn  *ttrpc.Client
}

// newPublisher returns a publisher that drops everything if address is empty.
func newPublisher(namespace, address string) *publisher {
	p := &publisher{namespace: namespace, address: strings.TrimPrefix(address, "unix://"), wake: make(chan struct{}, 1), quit: make(chan struct{})}
	if p.address != "" {
		go p.run()
	}
	return p
}

// publish takes an event and returns at once.
func (p *publisher) publish(topic string, event proto.Message) {
	if p.address == "" {
		return
	}
	value, err := proto.Marshal(event)
	if err != nil {
		slog.Error("encode event", "topic", topic, "error", err)
		return
	}
	e := &types.Envelope{
		Timestamp: timestamppb.Now(), Namespace: p.namespace, Topic: topic,
		// containerd names types without a prefix.
		Event: &anypb.Any{TypeUrl: string(event.ProtoReflect().Descriptor().FullName()), Value: value},
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) >= queueLimit {
		slog.Error("too many events wait for containerd, dropping the oldest", "topic", p.queue[0].Topic)
		p.queue = p.queue[1:]
	}
	p.queue = append(p.queue, e)
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *publisher) run() {
	defer p.disconnect()
	for {
		select {
		case <-p.wake:
		case <-p.quit:
			return
		}
		for e := p.first(); e != nil; e = p.first() {
			if !p.deliver(e) {
				return
			}
			p.drop(e)
		}
	}
}

func (p *publisher) first() *types.Envelope {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 {
		return p.queue[0]
	}
	if p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
	return nil
}

// drop removes e unless a full queue has dropped it already.
func (p *publisher) drop(e *types.Envelope) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 && p.queue[0] == e {
		p.queue = p.queue[1:]
	}
}

// deliver returns true when e has arrived, or was refused too often, and false
// when it is not to be sent any more.
func (p *publisher) deliver(e *types.Envelope) bool {
	refused := 0
	for {
		err := p.forward(e)
		if err == nil {
			return true
		}
		if !errdefs.IsUnavailable(err) {
			refused++
		}
		if refused >= refusals {
			slog.Error("containerd refuses an event, dropping it", "topic", e.Topic, "error", err)
			return true
		}
		slog.Debug("containerd does not take events", "topic", e.Topic, "error", err)
		select {
		case <-time.After(retryTime):
		case <-p.quit:
			return false
		}
	}
}

func (p *publisher) forward(e *types.Envelope) error {
	if p.conn == nil {
		conn, err := net.DialTimeout("unix", p.address, forwardTimeout)
		if err != nil {
			return errdefs.ErrUnavailable.WithMessage(err.Error())
		}
		p.conn = ttrpc.NewClient(conn, ttrpc.WithUnaryClientInterceptor(rpcerr.Client))
	}
	ctx, cancel := context.WithTimeout(context.Background(), forwardTimeout)
	defer cancel()
	_, err := events.NewTTRPCEventsClient(p.conn).Forward(ctx, &events.ForwardRequest{Envelope: e})
	if err != nil {
		p.disconnect()
	}
	return err
}

func (p *publisher) disconnect() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// close ends the publisher. Events that wait are lost; see flush.
func (p *publisher) close() { close(p.quit) }

// flush waits until every event has arrived, or ctx ends.
func (p *publisher) flush(ctx context.Context) {
	p.mu.Lock()
	idle := p.idle
	p.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
		slog.Warn("containerd has not taken all events")
	}
}
