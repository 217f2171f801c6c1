package sandbox

import (
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
)

// State is where a sandbox or a process is in its life.
type State int

// The states of doc.go's diagrams. A sandbox never becomes Paused.
const (
	Created State = iota
	Running
	Paused
	Stopped
)

// String returns the word that OCI runtimes use.
func (s State) String() string {
	switch s {
	case Created:
		return "created"
	case Running:
		return "running"
	case Paused:
		return "paused"
	case Stopped:
		return "stopped"
	}
	return "unknown"
}

// transitions lists where each state may lead.
var transitions = map[State][]State{
	Created: {Running, Stopped},
	Running: {Paused, Stopped},
	Paused:  {Running, Stopped},
	Stopped: {},
}

// lifecycle is a state with its guard.
type lifecycle struct {
	what string

	mu    sync.Mutex
	state State
}

func (l *lifecycle) get() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// expect returns errdefs.ErrFailedPrecondition unless the state is want.
func (l *lifecycle) expect(want State, action string) error {
	if is := l.get(); is != want {
		return fmt.Errorf("%s %s: it is %s, not %s: %w", action, l.what, is, want, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// to moves on to next where the diagram allows it, and reports whether it did.
func (l *lifecycle) to(next State) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(transitions[l.state], next) {
		l.state = next
		return true
	}
	return false
}
