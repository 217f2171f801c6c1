// Package timeline records when the phases of a start began and ended, and
// draws them as a small waterfall.
//
// It owns the data and the drawing. What a phase is, and who wants to know, is
// its callers' matter; it must not measure anything by itself.
package timeline

import (
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Span is one phase. Its times are of the host's clock, so that spans of
// several processes of one host fit on one line.
type Span struct {
	Name  string    `json:"name"`
	Begin time.Time `json:"begin"`
	End   time.Time `json:"end"`
	// Depth is how many other spans this one is a part of.
	Depth int `json:"depth,omitempty"`
}

// Took is how long the phase was.
func (s Span) Took() time.Duration { return s.End.Sub(s.Begin) }

// maxSpans bounds what a recorder keeps: a start has about a dozen.
const maxSpans = 64

// Recorder collects the spans of one start. Its zero value is ready, and all
// its methods may be called by several goroutines at a time.
type Recorder struct {
	mu     sync.Mutex
	spans  []Span
	closed bool
}

// Begin starts a phase, which ends when the returned function is called.
func (r *Recorder) Begin(name string) (end func()) {
	begin := time.Now()
	return func() { r.Add(Span{Name: name, Begin: begin, End: time.Now()}) }
}

// Add records a phase that is over.
func (r *Recorder) Add(s ...Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && len(r.spans)+len(s) <= maxSpans {
		r.spans = append(r.spans, s...)
	}
}

// Close ends the recording: what comes later is no part of the start. It
// returns the spans in the order of their beginnings, and whether this call
// was the first.
func (r *Recorder) Close() (spans []Span, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, r.closed = !r.closed, true
	sortSpans(r.spans)
	return slices.Clone(r.spans), first
}

// Under makes spans parts of another one.
func Under(spans []Span) []Span {
	spans = slices.Clone(spans)
	for i := range spans {
		spans[i].Depth++
	}
	return spans
}

// Sort brings spans into the order of their beginnings; the longer of two
// that begin together goes first.
func Sort(spans []Span) []Span {
	spans = slices.Clone(spans)
	sortSpans(spans)
	return spans
}

func sortSpans(spans []Span) {
	slices.SortStableFunc(spans, func(a, b Span) int {
		if c := a.Begin.Compare(b.Begin); c != 0 {
			return c
		}
		return b.End.Compare(a.End)
	})
}

// Bounds returns when the first span began and the last one ended.
func Bounds(spans []Span) (begin, end time.Time) {
	for i, s := range spans {
		if i == 0 || s.Begin.Before(begin) {
			begin = s.Begin
		}
		if s.End.After(end) {
			end = s.End
		}
	}
	return begin, end
}

// Attr is the spans for a log: how long each took.
func Attr(key string, spans []Span) slog.Attr {
	var attrs []any
	for _, s := range spans {
		attrs = append(attrs, slog.Duration(s.Name, s.Took().Round(time.Microsecond)))
	}
	return slog.Group(key, attrs...)
}
