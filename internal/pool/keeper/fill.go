package keeper

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"dougong.dev/dougong/internal/pool"
)

// leastMemory is what a machine is taken to need before one was measured.
const leastMemory = 96 << 20

// fill makes and ends machines until ctx ends.
func (k *Keeper[M]) fill(ctx context.Context) {
	defer k.settle()
	for ctx.Err() == nil {
		kind, pause := k.step()
		switch {
		case kind != nil:
			k.make(ctx, *kind)
			continue
		case pause == 0:
			k.settle()
		}
		var later <-chan time.Time
		if pause > 0 {
			later = time.After(pause)
		}
		select {
		case <-k.kick:
		case <-later:
		case <-ctx.Done():
			return
		}
	}
}

// step ends machines that are too many and says of which kind one is to be
// made, or after which time to look again; neither when all is well.
func (k *Keeper[M]) step() (*pool.Kind, time.Duration) {
	k.mu.Lock()
	gone := k.drop(func(it *item[M]) bool { return !alive(it.machine) })
	grow, shrink := k.history.next(k.Limits.Size, k.have())
	for _, key := range shrink {
		gone = append(gone, k.dropOne(key)...)
	}
	gone = append(gone, k.dropHeavy()...)
	k.forget()
	kind, pause := k.due(grow, time.Now())
	k.mu.Unlock()
	// Nobody who claims waits for that.
	end(gone)
	return kind, pause
}

// due says whether a machine of kind grow is made now.
func (k *Keeper[M]) due(grow string, now time.Time) (*pool.Kind, time.Duration) {
	if grow == "" {
		k.hungry, k.trouble = time.Time{}, ""
		return nil, 0
	}
	if k.hungry.IsZero() {
		k.hungry = now
	}
	if wait := k.retryAt.Sub(now); wait > 0 {
		return nil, wait
	}
	if wait := min(k.asked.Add(quiet).Sub(now), k.hungry.Add(patience).Sub(now)); wait > 0 {
		return nil, wait
	}
	if used, each := k.used(), k.weight(grow); used+each > k.limit() {
		k.trouble = fmt.Sprintf("%d MiB are in use and one more takes %d, which is above pool.memory_mib = %d", used>>20, each>>20, k.Limits.MemoryMiB)
		return nil, 0
	}
	kind := k.kinds[grow]
	k.making, k.trouble = true, ""
	return &kind, 0
}

// have counts the stock by kind.
func (k *Keeper[M]) have() map[string]int {
	have := map[string]int{}
	for _, it := range k.stock {
		have[it.kind]++
	}
	return have
}

// forget drops what is known of kinds that nobody asks for any more.
func (k *Keeper[M]) forget() {
	needed := k.have()
	for _, key := range k.history {
		needed[key]++
	}
	for key := range k.kinds {
		if needed[key] == 0 {
			delete(k.kinds, key)
			delete(k.weights, key)
		}
	}
}

// limit is what the stock may take of the host's memory, in bytes.
func (k *Keeper[M]) limit() int64 { return int64(k.Limits.MemoryMiB) << 20 }

// used is what it takes.
func (k *Keeper[M]) used() (used int64) {
	for _, it := range k.stock {
		used += it.memory
	}
	return used
}

// weight is what one more machine of a kind is likely to take.
func (k *Keeper[M]) weight(key string) int64 { return cmp.Or(k.weights[key], leastMemory) }

// dropHeavy takes the oldest machines out of the stock as long as all together
// take more than they may: the limit can have become lower, or one of a new kind
// be heavier than was thought.
func (k *Keeper[M]) dropHeavy() []M {
	over := k.used() - k.limit()
	return k.drop(func(it *item[M]) bool {
		if over <= 0 {
			return false
		}
		over -= it.memory
		return true
	})
}

// make makes one machine and puts it into the stock.
func (k *Keeper[M]) make(ctx context.Context, kind pool.Kind) {
	begin := time.Now()
	m, err := k.Make(ctx, newID(), kind)
	if err != nil {
		k.failed(ctx, kind, err)
		return
	}
	it := &item[M]{machine: m, kind: kind.Key, since: time.Now(), memory: leastMemory}
	if n, err := k.measure(m.PID()); err == nil {
		it.memory = n
	}
	slog.Info("machine ready", "pid", m.PID(), "kind", kind.Description, "took", time.Since(begin))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.making, k.retryAt, k.retryAfter, k.hungry = false, time.Time{}, 0, time.Time{}
	k.count.made++
	k.weights[kind.Key] = it.memory
	k.stock = append(k.stock, it)
	go func() {
		<-m.Done()
		k.wake()
	}()
}

func (k *Keeper[M]) failed(ctx context.Context, kind pool.Kind, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.making = false
	if ctx.Err() != nil {
		return
	}
	slog.Warn("no machine for the pool", "kind", kind.Description, "error", err)
	k.count.failed++
	k.retryAfter = min(max(2*k.retryAfter, retryFirst), retryLast)
	k.retryAt, k.trouble = time.Now().Add(k.retryAfter), err.Error()
	k.tellSettled()
}

// newID names a machine; it decides under which user it runs.
func newID() string {
	var b [8]byte
	// crypto/rand.Read never fails on Linux.
	_, _ = rand.Read(b[:])
	return "pool-" + hex.EncodeToString(b[:])
}

// drop takes machines out of the stock, which are then to be ended.
func (k *Keeper[M]) drop(goes func(*item[M]) bool) (gone []M) {
	kept := k.stock[:0:0]
	for _, it := range k.stock {
		if !goes(it) {
			kept = append(kept, it)
			continue
		}
		gone = append(gone, it.machine)
		k.count.dropped++
	}
	k.stock = kept
	return gone
}

// dropOne takes the oldest machine of a kind out of the stock.
func (k *Keeper[M]) dropOne(key string) []M {
	found := false
	return k.drop(func(it *item[M]) bool {
		goes := !found && it.kind == key
		found = found || goes
		return goes
	})
}

func end[M machine](machines []M) {
	for _, m := range machines {
		m.Kill()
	}
}

// empty ends all machines.
func (k *Keeper[M]) empty() {
	k.mu.Lock()
	gone := k.drop(func(*item[M]) bool { return true })
	k.mu.Unlock()
	end(gone)
}

// settle tells those who wait that nothing more is made for now.
func (k *Keeper[M]) settle() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tellSettled()
}

func (k *Keeper[M]) tellSettled() {
	for _, s := range k.settled {
		close(s)
	}
	k.settled = nil
}
