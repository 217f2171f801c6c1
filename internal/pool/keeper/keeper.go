package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"dougong.dev/dougong/internal/pool"
)

// machine is what a keeper knows of one.
type machine interface {
	PID() int
	Done() <-chan struct{}
	// Handles are copies of the files by which another process takes it over.
	Handles() ([]*os.File, error)
	// Let gives up this process's hold.
	Let()
	Kill()
}

// Times of a keeper.
const (
	// quiet is how long nobody has to have asked before a machine is made, since
	// starts under way need the processors more; but nothing waits for longer
	// than patience.
	quiet    = 300 * time.Millisecond
	patience = 3 * time.Second
	// Nothing is made for retryFirst after a failure, and twice as long after each
	// that follows, up to retryLast.
	retryFirst = time.Second
	retryLast  = time.Minute
	// answerTime bounds a request that is read and an answer that is written.
	answerTime = 10 * time.Second
)

// Keeper keeps a pool of one kind of implementation of machines.
type Keeper[M machine] struct {
	// Scope is the installation; others are refused.
	Scope string
	// Make makes a machine of a kind, to be known by id.
	Make func(ctx context.Context, id string, kind pool.Kind) (M, error)
	// Limits are in force until somebody asks with others.
	Limits pool.Limits

	// measure tells what a machine takes of the host's memory, in bytes.
	measure func(pid int) (int64, error)

	place *pool.Place
	since time.Time
	// kick wakes the maker.
	kick chan struct{}
	stop context.CancelFunc

	// mu guards the limits and all below.
	mu sync.Mutex
	// asked is when the last request came, hungry since when a machine is missing.
	asked, hungry time.Time
	history       history
	kinds         map[string]pool.Kind
	// weights are what machines took of the host's memory, in bytes, by kind.
	weights map[string]int64
	stock   []*item[M]
	making  bool
	idle    *time.Timer
	// retryAt is when something may be made again after failures, the last of
	// which said to wait for retryAfter.
	retryAt    time.Time
	retryAfter time.Duration
	trouble    string
	count      struct{ hits, misses, made, dropped, failed int }
	// settled are told when there is nothing to be made.
	settled []chan struct{}
}

// item is a machine that waits.
type item[M machine] struct {
	machine M
	kind    string
	since   time.Time
	// memory is what it takes of the host's, in bytes. It is stopped, so that it
	// stays nearly the same.
	memory int64
}

// Run keeps the pool at place until ctx ends, somebody says so, or nobody asks
// for long enough. Nothing is left then but what was handed on.
func (k *Keeper[M]) Run(ctx context.Context, place *pool.Place) error {
	ctx, k.stop = context.WithCancel(ctx)
	defer k.stop()
	k.place, k.measure = place, memoryOf
	k.prepare()
	k.mu.Lock()
	k.rewind()
	k.mu.Unlock()
	var all sync.WaitGroup
	stopListening := context.AfterFunc(ctx, func() { _ = place.Listener.Close() })
	defer stopListening()
	all.Go(func() { k.fill(ctx) })
	err := k.serve(&all)
	if ctx.Err() != nil {
		err = nil
	}
	k.stop()
	all.Wait()
	k.empty()
	place.Leave()
	return err
}

// prepare makes what a keeper has from the beginning.
func (k *Keeper[M]) prepare() {
	k.since, k.kick = time.Now(), make(chan struct{}, 1)
	k.kinds, k.weights = map[string]pool.Kind{}, map[string]int64{}
}

func (k *Keeper[M]) serve(all *sync.WaitGroup) error {
	for {
		conn, err := k.place.Listener.AcceptUnix()
		if err != nil {
			return fmt.Errorf("serve the pool: %w", err)
		}
		all.Go(func() {
			defer conn.Close()
			if err := k.answer(conn); err != nil {
				slog.Debug("answer", "error", err)
			}
		})
	}
}

// answer reads one request and does what it says.
func (k *Keeper[M]) answer(conn *net.UnixConn) error {
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	var r pool.Request
	files, err := pool.Receive(conn, &r)
	if err != nil {
		// A look whether somebody is there is no request.
		return err
	}
	for _, f := range files {
		_ = f.Close()
	}
	switch {
	case r.Op == pool.OpStatus:
		return pool.Send(conn, pool.Response{Status: k.status()})
	case r.Op == pool.OpStop:
		// The keeper's end is what the asker waits for then.
		defer k.stop()
		return pool.Send(conn, pool.Response{Status: k.status()})
	case r.Scope != k.Scope:
		return pool.Send(conn, pool.Response{Error: "it is another installation's, or another version's; 'dougong pool stop' ends it"})
	case r.Op == pool.OpClaim && r.Kind != nil:
		return k.claim(conn, r)
	case r.Op == pool.OpWant && r.Kind != nil:
		k.want(r)
		return pool.Send(conn, pool.Response{Status: k.status()})
	case r.Op == pool.OpFill && r.Kind != nil:
		return k.fillFor(conn, r)
	}
	return pool.Send(conn, pool.Response{Error: fmt.Sprintf("it does not know how to %q", r.Op)})
}

// ask notes a request for a kind.
func (k *Keeper[M]) ask(r pool.Request) {
	k.asked, k.Limits = time.Now(), r.Limits
	k.kinds[r.Kind.Key] = *r.Kind
	k.rewind()
}

// rewind begins the time anew after which nobody needs the pool any more.
func (k *Keeper[M]) rewind() {
	if k.idle != nil {
		k.idle.Stop()
		k.idle = nil
	}
	if k.Limits.Idle > 0 {
		k.idle = time.AfterFunc(k.Limits.Idle, k.stop)
	}
}

// claim hands a machine over.
func (k *Keeper[M]) claim(conn *net.UnixConn, r pool.Request) error {
	netns, err := pool.NetNS()
	if err != nil {
		return err
	}
	if r.Kind.NetNS != 0 && r.Kind.NetNS != netns {
		k.mu.Lock()
		k.count.misses++
		k.mu.Unlock()
		return pool.Send(conn, pool.Response{Miss: "they are in another network namespace"})
	}
	it, miss := k.take(r)
	if it == nil {
		return pool.Send(conn, pool.Response{Miss: miss})
	}
	if err := give(conn, it.machine); err != nil {
		it.machine.Kill()
		k.mu.Lock()
		k.count.hits--
		k.count.dropped++
		k.mu.Unlock()
		return err
	}
	return nil
}

// give sends a machine. From the moment at which its files are sent this
// process must not read from any of them.
func give[M machine](conn *net.UnixConn, m M) error {
	files, err := m.Handles()
	if err != nil {
		return err
	}
	m.Let()
	err = pool.Send(conn, pool.Response{PID: m.PID()}, files...)
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// take takes the oldest machine of a kind out of the stock.
func (k *Keeper[M]) take(r pool.Request) (it *item[M], miss string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ask(r)
	k.history = k.history.add(r.Kind.Key, k.Limits.Size)
	defer k.wake()
	for i, have := range k.stock {
		if have.kind == r.Kind.Key && alive(have.machine) {
			k.stock = append(k.stock[:i:i], k.stock[i+1:]...)
			k.count.hits++
			return have, ""
		}
	}
	k.count.misses++
	if len(k.stock) == 0 {
		return nil, "none is ready"
	}
	return nil, "none of this kind is ready"
}

func alive[M machine](m M) bool {
	select {
	case <-m.Done():
		return false
	default:
		return true
	}
}

// wake has the maker look again.
func (k *Keeper[M]) wake() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// want notes a start that got its machine elsewhere.
func (k *Keeper[M]) want(r pool.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ask(r)
	k.history = k.history.add(r.Kind.Key, k.Limits.Size)
	k.count.misses++
	k.wake()
}

// fillFor answers when nothing more is to be made.
func (k *Keeper[M]) fillFor(conn *net.UnixConn, r pool.Request) error {
	settled := make(chan struct{})
	k.mu.Lock()
	k.ask(r)
	k.asked = time.Time{} // nobody starts anything
	k.retryAt, k.retryAfter = time.Time{}, 0
	k.history = k.history.add(r.Kind.Key, k.Limits.Size)
	k.settled = append(k.settled, settled)
	k.mu.Unlock()
	k.wake()
	// The asker's patience is what counts.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = conn.Read(make([]byte, 1))
	}()
	select {
	case <-settled:
	case <-gone:
	}
	return pool.Send(conn, pool.Response{Status: k.status()})
}
