package sandbox

import "slices"

import "sync"

// releases is the stack of what a sandbox has acquired. Each acquisition
// pushes how it is given back, and unwind gives everything back in reverse.
type releases struct {
	mu   sync.Mutex
	undo []func()
	done bool
}

// push adds f. After unwind it runs f at once: what comes too late must not
// stay behind either.
func (r *releases) push(f func()) {
	r.mu.Lock()
	late := r.done
	if !late {
		r.undo = append(r.undo, f)
	}
	r.mu.Unlock()
	if late {
		f()
	}
}

// unwind runs every function once, the newest first. Of nothing acquired, nil,
// nothing is given back.
func (r *releases) unwind() {
	if r == nil {
		return
	}
	r.mu.Lock()
	undo := r.undo
	r.undo, r.done = nil, true
	r.mu.Unlock()
	for _, u := range slices.Backward(undo) {
		u()
	}
}
