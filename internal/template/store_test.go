package template

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Memory of the tests' guests.
const memorySize = 64 * page

// recipe makes a template whose memory holds content at its second page.
func recipe(key, content string) Recipe {
	return Recipe{
		Key: key, Description: "a test", MemorySize: memorySize,
		Boot: func(_ context.Context, memory, state *os.File) (time.Duration, error) {
			_, err := memory.WriteAt([]byte(content), page)
			_, stateErr := state.WriteString("state of " + content)
			return 7 * time.Second, errors.Join(err, stateErr)
		},
	}
}

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "templates"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *Store, r Recipe) *Template {
	t.Helper()
	made, err := s.GetOrCreate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// names lists everything in a store but its locks.
func names(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), lockPrefix) && e.Name() != linkStore {
			all = append(all, e.Name())
		}
	}
	return all
}

func TestKey(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"a"}, {"b"}, {"a", "b"}, {"b", "a"}, {"ab"}, {"a\nb"}, {"a", "1:b"}, {"a\n1:b"}} {
		key := Key(parts...)
		if !validKey.MatchString(key) {
			t.Errorf("key %q of %q is not valid", key, parts)
		}
		if before, twice := seen[key]; twice {
			t.Errorf("%q and %q have the same key", before, parts)
		}
		if seen[key] = parts; key != Key(parts...) {
			t.Errorf("the key of %q changes", parts)
		}
	}
}

func TestCreateThenGet(t *testing.T) {
	s, key := open(t), Key("x")
	if _, err := s.Get(key); !errdefs.IsNotFound(err) {
		t.Errorf("an empty store gives %v", err)
	}
	made := create(t, s, recipe(key, "memory"))
	if made.Key != key || made.Description != "a test" || made.MemorySize != memorySize || made.MemoryUsed != page || time.Since(made.Created) > time.Minute {
		t.Errorf("made %+v", made)
	}
	again := recipe(key, "")
	again.Boot = func(context.Context, *os.File, *os.File) (time.Duration, error) { return 0, errors.New("booted again") }
	if diff := cmp.Diff(made, create(t, s, again), cmp.AllowUnexported(Template{})); diff != "" {
		t.Errorf("made and got differ:\n%s", diff)
	}
	state, err := made.State()
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	if got := read(t, state); got != "state of memory" {
		t.Errorf("state is %q", got)
	}
	if diff := cmp.Diff([]string{key}, names(t, s)); diff != "" {
		t.Errorf("the store has (-want +got):\n%s", diff)
	}
}

func read(t *testing.T, f *os.File) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(f); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestStoreIsRootsAlone(t *testing.T) {
	s := open(t)
	info, err := os.Stat(s.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v; a template is the memory of every clone", info.Mode(), err)
	}
}

func TestBadKey(t *testing.T) {
	s := open(t)
	for _, key := range []string{"", ".", "..", "../../etc", "ABCDEF0123456789", strings.Repeat("a", 65)} {
		if err := s.Remove(key); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Remove(%q) gives %v", key, err)
		}
		if _, err := s.Get(key); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Get(%q) gives %v", key, err)
		}
		if has, err := s.Has(key); has || !errdefs.IsInvalidArgument(err) {
			t.Errorf("Has(%q) gives %v, %v", key, has, err)
		}
	}
}

func TestGoroutinesMakeOne(t *testing.T) {
	s, key := open(t), Key("x")
	var boots atomic.Int32
	r := recipe(key, "memory")
	boot := r.Boot
	r.Boot = func(ctx context.Context, memory, state *os.File) (time.Duration, error) {
		boots.Add(1)
		return boot(ctx, memory, state)
	}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if got, err := s.GetOrCreate(t.Context(), r); err != nil || got.Key != key {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	all.Wait()
	if boots.Load() != 1 {
		t.Errorf("%d boots, want 1", boots.Load())
	}
}

// helperDir has the test binary make a template in that store and then write
// one line for the boot, if it was the one to do it.
const helperDir = "TEMPLATE_TEST_DIR"

func TestMain(m *testing.M) {
	dir := os.Getenv(helperDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := Open(dir)
	if err == nil {
		r := recipe(Key("x"), "memory")
		boot := r.Boot
		r.Boot = func(ctx context.Context, memory, state *os.File) (time.Duration, error) {
			fmt.Println("booting")
			// What it would leave behind, were it killed.
			h, err := s.holdNew()
			if err != nil {
				return 0, err
			}
			defer h.remove()
			if err := os.WriteFile(filepath.Join(h.path, fileState), nil, 0o600); err != nil {
				return 0, err
			}
			// Until the test closes our input.
			_, _ = os.Stdin.Read(make([]byte, 1))
			return boot(ctx, memory, state)
		}
		_, err = s.GetOrCreate(context.Background(), r)
	}
	if err != nil {
		fmt.Println(err)
	}
}

// maker is another process that makes a template.
type maker struct {
	cmd    *exec.Cmd
	output bytes.Buffer
	stdin  *os.File
	waited sync.Once
}

func startMaker(t *testing.T, dir string) *maker {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	m := &maker{cmd: exec.Command(os.Args[0]), stdin: write}
	m.cmd.Env, m.cmd.Stdin, m.cmd.Stdout = append(os.Environ(), helperDir+"="+dir), read, &m.output
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.cmd.Process.Kill(); m.end() })
	return m
}

// end lets the process go on and waits for its end.
func (m *maker) end() {
	m.waited.Do(func() {
		_ = m.stdin.Close()
		_ = m.cmd.Wait()
	})
}

func TestProcessesMakeOne(t *testing.T) {
	s := open(t)
	makers := []*maker{startMaker(t, s.dir), startMaker(t, s.dir), startMaker(t, s.dir)}
	for _, m := range makers {
		// Ended together: whoever boots waits for its input alone.
		_ = m.stdin.Close()
	}
	output := ""
	for _, m := range makers {
		m.end()
		output += m.output.String()
	}
	if output != "booting\n" {
		t.Errorf("the processes say %q, want one boot", output)
	}
	if _, err := s.Get(Key("x")); err != nil {
		t.Error(err)
	}
}

// TestKilledMaker kills a process that makes a template. What it left is kept
// from sweeps as long as it lives, and not a moment longer.
func TestKilledMaker(t *testing.T) {
	s := open(t)
	m := startMaker(t, s.dir)
	waitFor(t, func() bool {
		state, _ := filepath.Glob(filepath.Join(s.dir, heldPrefix+"*", fileState))
		return len(state) == 1
	})
	if s.sweep(); len(names(t, s)) != 1 {
		t.Fatal("a sweep removed what a living process holds")
	}
	_ = m.cmd.Process.Kill()
	m.end()
	if len(names(t, s)) != 1 {
		t.Fatal("the killed process left nothing to sweep")
	}
	if _, err := Open(s.dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("the next process finds %v, %v", entries, err)
	}
	create(t, s, recipe(Key("x"), "memory"))
}

// waitFor waits for what another process is about to do.
func waitFor(t *testing.T, there func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); !there(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it never came")
		}
	}
}

// TestSweepRaces has directories made and swept at the same time: none may be
// taken from under its maker.
func TestSweepRaces(t *testing.T) {
	s := open(t)
	ctx, stop := context.WithCancel(t.Context())
	var sweeper sync.WaitGroup
	sweeper.Go(func() {
		for ctx.Err() == nil {
			s.sweep()
		}
	})
	for range 300 {
		h, err := s.holdNew()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(h.path, "x"), nil, 0o600); err != nil {
			t.Error(err)
		}
		h.remove()
		unlock, err := s.lockKey(ctx, "key")
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	}
	stop()
	sweeper.Wait()
}

// TestLockKeepsOthersOut also with sweeps in between that remove the file.
func TestLockKeepsOthersOut(t *testing.T) {
	s := open(t)
	inside, all := atomic.Int32{}, sync.WaitGroup{}
	for range 8 {
		all.Go(func() {
			for range 50 {
				unlock, err := s.lockKey(t.Context(), "key")
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				s.sweep()
				inside.Add(-1)
				unlock()
			}
		})
	}
	all.Wait()
}

func TestWaitEndsWithItsContext(t *testing.T) {
	s, key := open(t), Key("x")
	unlock, err := s.lockKey(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("nobody waits any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := s.GetOrCreate(ctx, recipe(key, "x")); !errors.Is(err, gone) {
		t.Errorf("GetOrCreate gives %v", err)
	}
	unlock()
	// The one that gave up must not have the lock in the end.
	create(t, s, recipe(key, "x"))
}

func TestFailedBootLeavesNothing(t *testing.T) {
	s, key := open(t), Key("x")
	failure := errors.New("the guest panicked")
	r := recipe(key, "")
	r.Boot = func(_ context.Context, memory, state *os.File) (time.Duration, error) {
		_, _ = memory.WriteAt([]byte("half"), 0)
		_, _ = state.WriteString("half")
		return 0, failure
	}
	if _, err := s.GetOrCreate(t.Context(), r); !errors.Is(err, failure) {
		t.Errorf("GetOrCreate gives %v", err)
	}
	if left := names(t, s); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	create(t, s, recipe(key, "memory"))
}

// TestFullDisk must leave the disk as it was.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("found before the boot", func(t *testing.T) {
		r := recipe(Key("x"), "")
		r.MemorySize = 2 << 20
		r.Boot = func(context.Context, *os.File, *os.File) (time.Duration, error) {
			return 0, errors.New("booted in vain")
		}
		if _, err := s.GetOrCreate(t.Context(), r); !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "free space") {
			t.Errorf("GetOrCreate gives %v", err)
		}
	})
	t.Run("found when the memory is stored", func(t *testing.T) {
		r := recipe(Key("x"), "")
		r.MemorySize = 900 << 10
		r.Boot = func(_ context.Context, memory, state *os.File) (time.Duration, error) {
			_, err := memory.Write(bytes.Repeat([]byte("x"), 900<<10))
			_, stateErr := state.Write(make([]byte, 300<<10))
			return 0, errors.Join(err, stateErr)
		}
		if _, err := s.GetOrCreate(t.Context(), r); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("GetOrCreate gives %v", err)
		}
	})
	if left := names(t, s); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestDamagedIsListedNoMore has it removed by who looks at all.
func TestDamagedIsListedNoMore(t *testing.T) {
	s := open(t)
	whole, damaged := Key("whole"), Key("damaged")
	create(t, s, recipe(whole, "memory"))
	create(t, s, recipe(damaged, "memory"))
	if err := os.WriteFile(filepath.Join(s.dir, damaged, fileManifest), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if has, err := s.Has(damaged); !has || err != nil {
		t.Errorf("before it is looked at: %v, %v", has, err)
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Key != whole {
		t.Errorf("%+v, %v", list, err)
	}
	if has, err := s.Has(damaged); has || err != nil {
		t.Errorf("afterwards: %v, %v", has, err)
	}
	if diff := cmp.Diff([]string{whole}, names(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestDamagedIsRemoved(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"state changed":    func(dir string) error { return os.WriteFile(filepath.Join(dir, fileState), []byte("x"), 0o600) },
		"state missing":    func(dir string) error { return os.Remove(filepath.Join(dir, fileState)) },
		"memory truncated": func(dir string) error { return os.Truncate(filepath.Join(dir, fileMemory), page) },
		"memory grown":     func(dir string) error { return os.Truncate(filepath.Join(dir, fileMemory), memorySize+1) },
		"memory missing":   func(dir string) error { return os.Remove(filepath.Join(dir, fileMemory)) },
		"manifest cut off": func(dir string) error { return os.Truncate(filepath.Join(dir, fileManifest), 10) },
		"manifest missing": func(dir string) error { return os.Remove(filepath.Join(dir, fileManifest)) },
	} {
		t.Run(name, func(t *testing.T) {
			s, key := open(t), Key("x")
			made := create(t, s, recipe(key, "old"))
			if err := damage(made.dir); err != nil {
				t.Fatal(err)
			}
			if list, err := s.List(); err != nil || len(list) != 0 {
				t.Errorf("List gives %v, %v", list, err)
			}
			if _, err := s.Get(key); !errdefs.IsNotFound(err) {
				t.Errorf("Get gives %v", err)
			}
			memory := copyOf(t, create(t, s, recipe(key, "new")))
			got := make([]byte, 3)
			if _, err := memory.ReadAt(got, page); err != nil || string(got) != "new" {
				t.Errorf("the memory has %q, %v", got, err)
			}
		})
	}
}

// TestPrune keeps those that were used last, not those that were made last.
func TestPrune(t *testing.T) {
	s := open(t)
	var keys []string
	for i := range keep {
		keys = append(keys, Key(fmt.Sprint(i)))
		made := create(t, s, recipe(keys[i], "memory"))
		// As if made in this order, an hour ago.
		at := time.Now().Add(time.Duration(i-60) * time.Minute)
		if err := os.Chtimes(filepath.Join(made.dir, fileManifest), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(keys[0]); err != nil {
		t.Fatal(err)
	}
	create(t, s, recipe(Key("one more"), "memory"))
	want := append([]string{Key("one more"), keys[0]}, keys[2:]...)
	slices.Sort(want)
	if diff := cmp.Diff(want, names(t, s)); diff != "" {
		t.Errorf("templates (-want +got):\n%s", diff)
	}
	list, err := s.List()
	if err != nil || len(list) != keep || list[0].Key != Key("one more") || list[1].Key != keys[0] || list[2].Key != keys[keep-1] {
		t.Errorf("List gives %v, %v, want the most recently used first", list, err)
	}
}

func TestRemoveAndClear(t *testing.T) {
	s := open(t)
	for _, part := range []string{"a", "b", "c"} {
		create(t, s, recipe(Key(part), part))
	}
	if err := s.Remove(Key("a")); err != nil {
		t.Error(err)
	}
	if err := s.Remove(Key("a")); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if left := names(t, s); len(left) != 2 {
		t.Errorf("left: %q", left)
	}
	// One that is being made is not listed, though it may be complete.
	held, err := s.holdNew()
	if err != nil {
		t.Fatal(err)
	}
	defer held.remove()
	for _, name := range []string{fileManifest, fileMemory, fileState} {
		if err := os.Link(filepath.Join(s.dir, Key("b"), name), filepath.Join(held.path, name)); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 2 {
		t.Errorf("List gives %v, %v", list, err)
	}
	held.remove()
	// A damaged one goes too.
	if err := os.Remove(filepath.Join(s.dir, Key("b"), fileManifest)); err != nil {
		t.Fatal(err)
	}
	if err := s.Clear(); err != nil {
		t.Error(err)
	}
	if left := names(t, s); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
