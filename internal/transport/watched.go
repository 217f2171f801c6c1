package transport

import (
	"io"
	"sync/atomic"
	"time"
)

// Watched is a writer of which others can tell that nobody takes what is
// written.
type Watched struct {
	to io.Writer
	// since is when the write under way began, in Unix nanoseconds, and 0
	// between writes; moved is when the last one ended.
	since, moved atomic.Int64
}

// NewWatched returns a writer to another.
func NewWatched(to io.Writer) *Watched { return &Watched{to: to} }

// Write writes to the other.
func (w *Watched) Write(p []byte) (int, error) {
	w.since.Store(time.Now().UnixNano())
	n, err := w.to.Write(p)
	w.moved.Store(time.Now().UnixNano())
	w.since.Store(0)
	return n, err
}

// Stuck reports whether a write has waited for longer than limit.
func (w *Watched) Stuck(limit time.Duration) bool {
	since := w.since.Load()
	return since != 0 && time.Since(time.Unix(0, since)) > limit
}

// Idle reports whether nothing was written for longer than limit since a point
// in time.
func (w *Watched) Idle(start time.Time, limit time.Duration) bool {
	if w.since.Load() != 0 {
		return false
	}
	if moved := time.Unix(0, w.moved.Load()); moved.After(start) {
		start = moved
	}
	return time.Since(start) > limit
}
