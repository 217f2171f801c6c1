package pool

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func nothing(string) error { return nil }

func take(t *testing.T, state string) *Place {
	t.Helper()
	p, err := Take(state, nothing)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func isThere(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestTakeAndLeave(t *testing.T) {
	state := t.TempDir()
	p := take(t, state)
	if _, err := Take(state, nothing); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second keeper: %v", err)
	}
	if info, err := os.Stat(Dir(state)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info, err)
	}
	left := false
	p.Leaving = func() { left = isThere(t, Dir(state)) }
	p.Leave()
	if !left || isThere(t, Dir(state)) {
		t.Errorf("what else it has was given up with the directory there: %v; the directory is still there: %v", left, isThere(t, Dir(state)))
	}
	take(t, state).Leave()
}

// killed leaves what a keeper leaves that is killed.
func killed(t *testing.T, state string) {
	t.Helper()
	p := take(t, state)
	_, _ = p.Listener.Close(), p.lock.Close()
	if !isThere(t, filepath.Join(Dir(state), socketName)) {
		t.Fatal("there is no socket left")
	}
}

// TestAfterAKilledKeeper clears what is noted in the directory before it goes, or
// is used again.
func TestAfterAKilledKeeper(t *testing.T) {
	for name, next := range map[string]func(state string, clear func(string) error) error{
		"sweep": Sweep,
		"take": func(state string, clear func(string) error) error {
			p, err := Take(state, clear)
			if err == nil {
				p.Leave()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			killed(t, state)
			broken := errors.New("it cannot be cleared")
			if err := next(state, func(string) error { return broken }); !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
			if name == "sweep" && !isThere(t, Dir(state)) {
				t.Error("what is noted there is lost")
			}
			killed(t, state)
			cleared := ""
			if err := next(state, func(dir string) error { cleared = dir; return nil }); err != nil {
				t.Error(err)
			}
			if cleared != Dir(state) || isThere(t, Dir(state)) {
				t.Errorf("cleared %q; the directory is there: %v", cleared, isThere(t, Dir(state)))
			}
		})
	}
}

func TestSweepOfNothing(t *testing.T) {
	never := func(string) error { return errors.New("something was cleared") }
	state := t.TempDir()
	if err := Sweep(state, never); err != nil {
		t.Error(err)
	}
	p := take(t, state)
	defer p.Leave()
	if err := Sweep(state, never); err != nil || !isThere(t, Dir(state)) {
		t.Errorf("a keeper that lives: %v", err)
	}
}

// TestPlaceThatCannotBe names it.
func TestPlaceThatCannotBe(t *testing.T) {
	state := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(state, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Take(state, nothing); err == nil || !strings.Contains(err.Error(), state) {
		t.Errorf("got %v", err)
	}
}
