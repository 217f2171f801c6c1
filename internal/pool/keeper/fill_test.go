package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dougong.dev/dougong/internal/pool"
)

// dummy is a machine that is nothing at all.
type dummy struct {
	pid  int
	done chan struct{}
	once sync.Once
}

func (d *dummy) PID() int                     { return d.pid }
func (d *dummy) Done() <-chan struct{}        { return d.done }
func (d *dummy) Handles() ([]*os.File, error) { return nil, errors.New("it has none") }
func (d *dummy) Let()                         {}
func (d *dummy) Kill()                        { d.once.Do(func() { close(d.done) }) }

// maker is a keeper without a socket, whose time is that of a bubble.
type maker struct {
	*testing.T
	*Keeper[*dummy]
	begun time.Time
	// own guards all below.
	own sync.Mutex
	// made are the times at which machines were asked for, since the beginning.
	made []time.Duration
	// fail is what comes of that, weigh what a machine takes, and take how long it
	// takes to make it.
	fail  error
	weigh int64
	take  time.Duration
}

// inBubble runs a test with a keeper that fills its pool.
func inBubble(t *testing.T, limits pool.Limits, test func(m *maker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &maker{T: t, begun: time.Now(), weigh: 80 << 20}
		m.Keeper = &Keeper[*dummy]{Limits: limits, measure: m.measured}
		m.Make = func(context.Context, string, pool.Kind) (*dummy, error) {
			number, take, fail := m.note()
			time.Sleep(take)
			return &dummy{pid: number, done: make(chan struct{})}, fail
		}
		m.prepare()
		ctx, cancel := context.WithCancel(t.Context())
		m.stop = cancel
		filled := make(chan struct{})
		go func() {
			m.fill(ctx)
			close(filled)
		}()
		test(m)
		cancel()
		<-filled
		m.empty()
		// Each machine has somebody who waits for its end.
		synctest.Wait()
	})
}

func (m *maker) measured(int) (int64, error) {
	m.own.Lock()
	defer m.own.Unlock()
	return m.weigh, nil
}

// note notes that a machine is asked for, and tells how many were, how long this
// one takes, and how it fails.
func (m *maker) note() (number int, take time.Duration, fail error) {
	m.own.Lock()
	defer m.own.Unlock()
	m.made = append(m.made, time.Since(m.begun))
	return len(m.made), m.take, m.fail
}

// set changes what comes of making machines.
func (m *maker) set(change func()) {
	m.own.Lock()
	defer m.own.Unlock()
	change()
}

// times are those at which machines were asked for.
func (m *maker) times() []time.Duration {
	m.own.Lock()
	defer m.own.Unlock()
	return slices.Clone(m.made)
}

// kept says how many machines of each kind there are.
func (m *maker) kept() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprint(m.have())
}

// ask is a start that wants a machine of a kind under limits.
func (m *maker) ask(key string, limits pool.Limits) bool {
	kind := kindOf(key)
	it, _ := m.Keeper.take(pool.Request{Kind: &kind, Limits: limits})
	if it != nil {
		it.machine.Kill()
	}
	return it != nil
}

func (m *maker) wantMade(want ...time.Duration) {
	m.Helper()
	synctest.Wait()
	if made := m.times(); !slices.Equal(made, want) {
		m.Errorf("machines were made at %v, want %v", made, want)
	}
}

// wantStatus checks what is counted, and that nothing is lost: what was made
// waits, was given, or was dropped.
func (m *maker) wantStatus(waiting, hits, misses, dropped, failed int) {
	m.Helper()
	synctest.Wait()
	s := m.status()
	got := []int{len(s.Waiting), s.Hits, s.Misses, s.Dropped, s.Failed}
	if !slices.Equal(got, []int{waiting, hits, misses, dropped, failed}) {
		m.Errorf("waiting, hits, misses, dropped and failed are %v, want %v", got, []int{waiting, hits, misses, dropped, failed})
	}
	if s.Made != len(s.Waiting)+s.Hits+s.Dropped {
		m.Errorf("%d were made: %+v", s.Made, s)
	}
}

// TestMadeWhenItIsQuiet does not get into the way of starts, but does not wait for
// ever either.
func TestMadeWhenItIsQuiet(t *testing.T) {
	t.Run("after one start", func(t *testing.T) {
		inBubble(t, plenty(2), func(m *maker) {
			m.ask("a", plenty(2))
			time.Sleep(time.Minute)
			m.wantMade(quiet, quiet)
			m.wantStatus(2, 0, 1, 0, 0)
		})
	})
	t.Run("between many", func(t *testing.T) {
		inBubble(t, plenty(1), func(m *maker) {
			for range 20 {
				m.ask("a", plenty(1))
				time.Sleep(quiet - time.Millisecond)
			}
			if made := m.times(); len(made) == 0 || made[0] != patience {
				m.Errorf("machines were made at %v, the first one should be at %v", made, patience)
			}
		})
	})
	t.Run("while one is made", func(t *testing.T) {
		inBubble(t, plenty(3), func(m *maker) {
			m.set(func() { m.take = time.Second })
			m.ask("a", plenty(3))
			time.Sleep(time.Minute)
			m.wantMade(quiet, quiet+time.Second, quiet+2*time.Second)
		})
	})
}

// TestRefill makes as many as were taken.
func TestRefill(t *testing.T) {
	inBubble(t, plenty(4), func(m *maker) {
		m.ask("a", plenty(4))
		time.Sleep(time.Second)
		for range 6 {
			m.ask("a", plenty(4))
		}
		m.wantStatus(0, 4, 3, 0, 0)
		time.Sleep(time.Second)
		m.wantStatus(4, 4, 3, 0, 0)
	})
}

// TestPausesAfterFailures double up to the longest, and one success ends them.
func TestPausesAfterFailures(t *testing.T) {
	inBubble(t, plenty(1), func(m *maker) {
		m.set(func() { m.fail = errors.New("no kernel") })
		m.ask("a", plenty(1))
		time.Sleep(4 * time.Minute)
		want, at := []time.Duration{}, quiet
		for pause := retryFirst; at < 4*time.Minute; pause = min(2*pause, retryLast) {
			want = append(want, at)
			at += pause
		}
		m.wantMade(want...)
		if s := m.status(); s.Trouble != "no kernel" {
			m.Errorf("trouble: %q", s.Trouble)
		}
		m.set(func() { m.fail = nil })
		time.Sleep(retryLast)
		m.wantStatus(1, 0, 1, 0, len(want))
		if s := m.status(); s.Trouble != "" {
			m.Errorf("trouble: %q", s.Trouble)
		}
		m.ask("a", plenty(1))
		time.Sleep(quiet)
		m.wantStatus(1, 1, 1, 0, len(want))
	})
}

// TestSizeChanges with whoever asks.
func TestSizeChanges(t *testing.T) {
	inBubble(t, plenty(4), func(m *maker) {
		m.ask("a", plenty(4))
		time.Sleep(time.Second)
		m.ask("a", plenty(2))
		time.Sleep(time.Second)
		m.wantStatus(2, 1, 1, 1, 0)
		m.ask("a", plenty(5))
		time.Sleep(time.Second)
		m.wantStatus(5, 2, 1, 1, 0)
		m.ask("a", plenty(0))
		time.Sleep(time.Minute)
		m.wantStatus(0, 3, 1, 5, 0)
		m.mu.Lock()
		defer m.mu.Unlock()
		if n := len(m.kinds) + len(m.weights); n != 0 {
			m.Errorf("%d things are known of kinds that nobody asks for", n)
		}
	})
}

// TestKindsShareThePool as the latest starts did.
func TestKindsShareThePool(t *testing.T) {
	inBubble(t, plenty(3), func(m *maker) {
		for _, key := range []string{"a", "a", "b"} {
			m.ask(key, plenty(3))
		}
		time.Sleep(time.Second)
		if have := m.kept(); have != "map[a:2 b:1]" {
			m.Errorf("there are %s", have)
		}
		for range 3 {
			m.ask("c", plenty(3))
		}
		time.Sleep(time.Second)
		if have := m.kept(); have != "map[c:3]" {
			m.Errorf("there are %s", have)
		}
		m.wantStatus(3, 0, 6, 3, 0)
	})
}

func mebibytes(size, memory int) pool.Limits { return pool.Limits{Size: size, MemoryMiB: memory} }

// TestMemoryLimit holds whether it comes before the machines or after them.
func TestMemoryLimit(t *testing.T) {
	inBubble(t, mebibytes(4, 1000), func(m *maker) {
		m.ask("a", mebibytes(4, 1000))
		time.Sleep(time.Second)
		m.wantStatus(4, 0, 1, 0, 0)
		m.ask("a", mebibytes(4, 200))
		time.Sleep(time.Minute)
		m.wantStatus(2, 1, 1, 1, 0)
		if s := m.status(); !strings.Contains(s.Trouble, "160 MiB are in use and one more takes 80") || s.MemoryMiB != 160 {
			m.Errorf("%+v", s)
		}
	})
}

// TestHeavyMachine is found to be above the limit when there is one, and not
// made over and over.
func TestHeavyMachine(t *testing.T) {
	inBubble(t, mebibytes(2, 150), func(m *maker) {
		m.set(func() { m.weigh = 200 << 20 })
		for range 3 {
			m.ask("a", mebibytes(2, 150))
			time.Sleep(time.Hour)
		}
		m.wantMade(quiet)
		m.wantStatus(0, 0, 3, 1, 0)
		if s := m.status(); !strings.Contains(s.Trouble, "one more takes 200") {
			m.Errorf("trouble: %q", s.Trouble)
		}
		// Another kind may be lighter.
		m.set(func() { m.weigh = 10 << 20 })
		m.ask("b", mebibytes(2, 150))
		time.Sleep(time.Hour)
		m.wantStatus(1, 0, 4, 1, 0)
	})
}

// TestDeadMachine is replaced when it ends, and never given.
func TestDeadMachine(t *testing.T) {
	inBubble(t, plenty(1), func(m *maker) {
		m.ask("a", plenty(1))
		time.Sleep(time.Second)
		m.mu.Lock()
		first := m.stock[0].machine
		m.mu.Unlock()
		first.Kill()
		if m.ask("a", plenty(1)) {
			m.Error("a dead machine was given")
		}
		time.Sleep(time.Second)
		m.wantStatus(1, 0, 2, 1, 0)
	})
}

// TestIdle counts from the last request.
func TestIdle(t *testing.T) {
	limits := pool.Limits{Size: 1, MemoryMiB: 1000, Idle: time.Minute}
	inBubble(t, limits, func(m *maker) {
		var ended atomic.Bool
		m.stop = func() { ended.Store(true) }
		for range 3 {
			m.ask("a", limits)
			time.Sleep(time.Minute - time.Second)
		}
		if ended.Load() {
			m.Error("it ends although it is asked")
		}
		time.Sleep(2 * time.Second)
		if !ended.Load() {
			m.Error("it does not end")
		}
	})
}
