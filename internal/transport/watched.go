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
	// made is what the times below count from, in nanoseconds, so that a clock
	// that is set does not make a writer look stuck.
	made time.Time
	// since is when the write under way began, and 0 between writes; moved is
	// when the last one ended.
	since, moved atomic.Int64
}

// NewWatched returns a writer to another.
func NewWatched(to io.Writer) *Watched { return &Watched{to: to, made: time.Now()} }

// Write writes to the other.
func (w *Watched) Write(p []byte) (int, error) {
	w.since.Store(max(1, int64(time.Since(w.made))))
	n, err := w.to.Write(p)
	w.moved.Store(int64(time.Since(w.made)))
	w.since.Store(0)
	return n, err
}

// Stuck reports whether a write has waited for longer than limit.
func (w *Watched) Stuck(limit time.Duration) bool {
	since := w.since.Load()
	return since != 0 && time.Since(w.made)-time.Duration(since) > limit
}

// Idle reports whether nothing was written for longer than limit since a point
// in time.
func (w *Watched) Idle(start time.Time, limit time.Duration) bool {
	if w.since.Load() != 0 {
		return false
	}
	if moved := w.made.Add(time.Duration(w.moved.Load())); w.moved.Load() != 0 && moved.After(start) {
		start = moved
	}
	return time.Since(start) > limit
}
