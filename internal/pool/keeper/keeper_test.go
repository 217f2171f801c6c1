package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/child"
	"dougong.dev/dougong/internal/pool"
)

func TestMain(m *testing.M) {
	if err := child.Leased(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// process is a machine that does nothing: a real process on a real lease.
type process struct {
	*child.Process
	lease *os.File
}

func newProcess() (*process, error) {
	p, lease, err := child.StartLeased(exec.Command("/bin/sleep", "infinity"))
	return &process{p, lease}, err
}

// Handles are a process's own.
func (p *process) Handles() ([]*os.File, error) {
	pidfd, err := p.PIDFD()
	if err != nil {
		return nil, err
	}
	// Another descriptor of the lease, as Handles has to be copies.
	lease, err := os.OpenFile("/proc/self/fd/"+itoa(p.lease), os.O_WRONLY, 0)
	if err != nil {
		_ = pidfd.Close()
		return nil, err
	}
	return []*os.File{pidfd, lease}, nil
}

// Let gives up the lease.
func (p *process) Let() { _ = p.lease.Close() }

// kept is a keeper that runs.
type kept struct {
	*testing.T
	*pool.Client
	ended chan error
	stop  context.CancelFunc
}

const scope = "here"

func keep(t *testing.T, limits pool.Limits, made func(id string, kind pool.Kind) (*process, error)) *kept {
	t.Helper()
	state := t.TempDir()
	place, err := pool.Take(state, nothingToClear)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &kept{T: t, Client: &pool.Client{State: state, Scope: scope, Limits: limits}, ended: make(chan error, 1), stop: cancel}
	keeper := Keeper[*process]{Scope: scope, Limits: limits}
	keeper.Make = func(_ context.Context, id string, kind pool.Kind) (*process, error) { return made(id, kind) }
	go func() { k.ended <- keeper.Run(ctx, place) }()
	t.Cleanup(func() {
		cancel()
		k.awaitEnd()
		if _, err := os.Stat(pool.Dir(state)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the directory is still there: %v", err)
		}
	})
	return k
}

func (k *kept) awaitEnd() {
	k.Helper()
	select {
	case err := <-k.ended:
		k.ended <- nil
		if err != nil {
			k.Errorf("the keeper ended with %v", err)
		}
	case <-time.After(time.Minute):
		k.Fatal("the keeper does not end")
	}
}

func plenty(size int) pool.Limits { return pool.Limits{Size: size, MemoryMiB: 1 << 20} }

func anyKind(string, pool.Kind) (*process, error) { return newProcess() }

func kindOf(key string) pool.Kind {
	return pool.Kind{Key: key, Description: "kind " + key, Recipe: []byte(`{}`)}
}

func (k *kept) fill(key string) *pool.Status {
	k.Helper()
	s, err := k.Fill(k.Context(), kindOf(key))
	if err != nil {
		k.Fatal(err)
	}
	return s
}

// take claims a machine and takes it over.
func (k *kept) take(key string) (*child.Process, error) {
	lot, err := k.Claim(k.Context(), kindOf(key))
	if err != nil {
		return nil, err
	}
	return child.Adopt(lot.PID, lot.Files[0], lot.Files[1]), nil
}

func running(p *child.Process) bool {
	select {
	case <-p.Done():
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

func TestClaim(t *testing.T) {
	k := keep(t, plenty(2), anyKind)
	s := k.fill("a")
	if len(s.Waiting) != 2 || s.Made != 2 || s.Hits+s.Misses+s.Dropped+s.Failed != 0 || s.Trouble != "" {
		t.Fatalf("after fill: %+v", s)
	}
	p, err := k.take("a")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	if p.PID() != s.Waiting[0].PID {
		t.Errorf("got %d, and %d was the first", p.PID(), s.Waiting[0].PID)
	}
	s = k.fill("a")
	if len(s.Waiting) != 2 || s.Hits != 1 || s.Made != 3 {
		t.Errorf("after a claim: %+v", s)
	}
	left, err := k.Stop(t.Context())
	if err != nil || len(left.Waiting) != 2 {
		t.Errorf("stop: %+v, %v", left, err)
	}
	k.awaitEnd()
	if !running(p) {
		t.Error("what was claimed ended with the keeper")
	}
	for _, w := range left.Waiting {
		if _, err := os.Stat(filepath.Join("/proc", itoaInt(w.PID))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("process %d is left", w.PID)
		}
	}
	if _, err := k.Claim(t.Context(), kindOf("a")); !errdefs.IsNotFound(err) {
		t.Errorf("claim without a keeper: %v", err)
	}
	if _, err := k.Stop(t.Context()); !errdefs.IsNotFound(err) {
		t.Errorf("stop without a keeper: %v", err)
	}
}

func TestMisses(t *testing.T) {
	k := keep(t, plenty(1), anyKind)
	var miss *pool.MissError
	if _, err := k.Claim(t.Context(), kindOf("a")); !errors.As(err, &miss) || miss.Reason != "none is ready" {
		t.Errorf("an empty pool: %v", err)
	}
	k.fill("a")
	if _, err := k.Claim(t.Context(), kindOf("b")); !errors.As(err, &miss) || miss.Reason != "none of this kind is ready" {
		t.Errorf("another kind: %v", err)
	}
	elsewhere := kindOf("a")
	elsewhere.NetNS = 1
	if _, err := k.Claim(t.Context(), elsewhere); !errors.As(err, &miss) || miss.Reason != "they are in another network namespace" {
		t.Errorf("another network namespace: %v", err)
	}
	other := &pool.Client{State: k.State, Scope: "elsewhere", Limits: k.Limits}
	if _, err := other.Claim(t.Context(), kindOf("a")); !errors.As(err, &miss) || errdefs.IsNotFound(err) {
		t.Errorf("another installation: %v", err)
	}
	if s, err := other.Status(t.Context()); err != nil || s.Misses != 3 || s.Hits != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
}

// TestKindsFollowTheStarts has one kind give way to another.
func TestKindsFollowTheStarts(t *testing.T) {
	k := keep(t, plenty(2), anyKind)
	k.fill("a")
	for range 2 {
		_, _ = k.take("b")
	}
	s := k.fill("b")
	if len(s.Waiting) != 2 || s.Waiting[0].Kind != "b" || s.Waiting[1].Kind != "b" || s.Dropped != 2 {
		t.Errorf("%+v", s)
	}
}

// TestManyClaims has more claim at once than there are machines: each gets one
// of its own or none.
func TestManyClaims(t *testing.T) {
	k := keep(t, plenty(4), anyKind)
	k.fill("a")
	var mu sync.Mutex
	var got []*child.Process
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			p, err := k.take("a")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				got = append(got, p)
			}
		})
	}
	all.Wait()
	pids := map[int]bool{}
	for _, p := range got {
		if pids[p.PID()] || !running(p) {
			t.Errorf("process %d was given twice, or is dead", p.PID())
		}
		pids[p.PID()] = true
		p.Kill()
	}
	s, err := k.Status(t.Context())
	if err != nil || s.Hits != len(got) || s.Hits+s.Misses != 20 || len(got) < 4 {
		t.Errorf("%d were given: %+v, %v", len(got), s, err)
	}
}

// TestClaimerIsGone claims and goes away without a look at the answer.
func TestClaimerIsGone(t *testing.T) {
	k := keep(t, plenty(1), anyKind)
	pid := k.fill("a").Waiting[0].PID
	lot, err := k.Claim(t.Context(), kindOf("a"))
	if err != nil || lot.PID != pid {
		t.Fatal(lot, err)
	}
	// The kernel closes a killed process's files, the lease among them.
	for _, f := range lot.Files {
		_ = f.Close()
	}
	awaitGone(t, pid)
}

func awaitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join("/proc", itoaInt(pid))); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives on", pid)
		}
	}
}

// TestDeadMachinesAreReplaced kills one that waits.
func TestDeadMachinesAreReplaced(t *testing.T) {
	k := keep(t, plenty(1), anyKind)
	pid := k.fill("a").Waiting[0].PID
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Kill()
	awaitGone(t, pid)
	s := k.fill("a")
	if len(s.Waiting) != 1 || s.Waiting[0].PID == pid || s.Dropped != 1 || s.Made != 2 {
		t.Errorf("%+v", s)
	}
}

func TestFailureIsTold(t *testing.T) {
	k := keep(t, plenty(2), func(string, pool.Kind) (*process, error) { return nil, errors.New("no kernel") })
	if s := k.fill("a"); len(s.Waiting) != 0 || s.Failed != 1 || s.Trouble != "no kernel" {
		t.Errorf("%+v", s)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	k := keep(t, pool.Limits{Size: 4, MemoryMiB: leastMemory>>20 - 1}, anyKind)
	s := k.fill("a")
	if len(s.Waiting) != 0 || !strings.Contains(s.Trouble, "above pool.memory_mib = 95") {
		t.Errorf("%+v", s)
	}
}

func TestKeeperEndsWhenIdle(t *testing.T) {
	k := keep(t, pool.Limits{Size: 1, MemoryMiB: 1 << 20, Idle: 50 * time.Millisecond}, anyKind)
	k.awaitEnd()
}

// TestStopWhileOneIsMade has the keeper wait for nothing.
func TestStopWhileOneIsMade(t *testing.T) {
	begun := make(chan struct{})
	var once sync.Once
	var k *kept
	release := make(chan struct{})
	k = keep(t, plenty(1), func(string, pool.Kind) (*process, error) {
		once.Do(func() { close(begun) })
		<-release
		return nil, errors.New("stopped")
	})
	go func() { _ = k.Want(k.Context(), kindOf("a")) }()
	<-begun
	k.stop()
	close(release)
	k.awaitEnd()
}

func nothingToClear(string) error { return nil }

func TestOneKeeperAtATime(t *testing.T) {
	k := keep(t, plenty(1), anyKind)
	if _, err := pool.Take(k.State, nothingToClear); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second keeper: %v", err)
	}
	if err := pool.Sweep(k.State, func(string) error { return errors.New("it was cleared") }); err != nil {
		t.Error(err)
	}
	if _, err := k.Status(t.Context()); err != nil {
		t.Errorf("after a sweep: %v", err)
	}
}
