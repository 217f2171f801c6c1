package sandbox

import (
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
)

var states = []State{Created, Running, Paused, Stopped}

// TestTransitions goes through all pairs: the diagram in doc.go, once more.
func TestTransitions(t *testing.T) {
	allowed := map[[2]State]bool{
		{Created, Running}: true,
		{Created, Stopped}: true,
		{Running, Paused}:  true,
		{Running, Stopped}: true,
		{Paused, Running}:  true,
		{Paused, Stopped}:  true,
	}
	for _, from := range states {
		for _, to := range states {
			l := lifecycle{what: "thing", state: from}
			want := allowed[[2]State{from, to}]
			if got := l.to(to); got != want {
				t.Errorf("%s to %s: %v, want %v", from, to, got, want)
			}
			end := from
			if want {
				end = to
			}
			if l.get() != end {
				t.Errorf("%s to %s ends in %s, want %s", from, to, l.get(), end)
			}
		}
	}
}

func TestExpect(t *testing.T) {
	for _, is := range states {
		for _, want := range states {
			l := lifecycle{what: "container c1", state: is}
			err := l.expect(want, "start")
			if is == want {
				if err != nil {
					t.Errorf("%s as expected gives %v", is, err)
				}
				continue
			}
			if !errdefs.IsFailedPrecondition(err) {
				t.Fatalf("%s in place of %s gives %v, want a failed precondition", is, want, err)
			}
			for _, part := range []string{"start container c1", is.String(), want.String()} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error is %q, want %q in it", err, part)
				}
			}
		}
	}
}

// TestOnlyOneEnds has many who want to end the same thing.
func TestOnlyOneEnds(t *testing.T) {
	l := lifecycle{state: Running}
	var ended [32]bool
	var all sync.WaitGroup
	for i := range ended {
		all.Go(func() { ended[i] = l.to(Stopped) })
	}
	all.Wait()
	n := 0
	for _, e := range ended {
		if e {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d ended it, want one", n)
	}
}

func TestStateWords(t *testing.T) {
	// The words of the OCI runtime specification, and Dougong's for the rest.
	want := map[State]string{Created: "created", Running: "running", Paused: "paused", Stopped: "stopped", 99: "unknown"}
	for s, word := range want {
		if s.String() != word {
			t.Errorf("state %d is called %q, want %q", int(s), s, word)
		}
	}
}
