package sandbox

import (
	"context"
	"log/slog"
	"time"

	"dougong.dev/dougong/internal/timeline"
	"dougong.dev/dougong/internal/transport"
)

// phase logs how long a phase took, when the returned function is called.
// Those of the start, up to the first process of the first container, make up
// the sandbox's timeline.
func (s *Sandbox) phase(ctx context.Context, name string) func() {
	begin, end := time.Now(), s.start.Begin(name)
	return func() {
		end()
		slog.DebugContext(ctx, "phase", "sandbox", s.opts.ID, "phase", name, "took", time.Since(begin))
	}
}

// traceStart ends the timeline with the start of the first container, and
// logs all of it in one line.
func (s *Sandbox) traceStart(ctx context.Context) {
	spans, first := s.start.Close()
	if !first {
		return
	}
	begin, end := timeline.Bounds(spans)
	slog.InfoContext(ctx, "container started", "sandbox", s.opts.ID, "took", end.Sub(begin), timeline.Attr("phase", spans))
}

// Timeline returns the phases of the start. Later ones are no part of it.
func (s *Sandbox) Timeline() []timeline.Span {
	spans, _ := s.start.Close()
	return spans
}

// traceBoot adds what the guest says of its own boot, which has ended just now.
func (s *Sandbox) traceBoot(boot []transport.Timing) {
	s.start.Add(timeline.Under(bootSpans(boot, time.Now()))...)
}

// bootSpans turns the times at which the steps of a guest's boot were reached
// into the phases before them, the last of which has ended now. The guest may
// say anything; what is not in order is left out.
func bootSpans(boot []transport.Timing, now time.Time) []timeline.Span {
	if len(boot) == 0 {
		return nil
	}
	at := func(us int64) time.Time {
		return now.Add(-time.Duration(boot[len(boot)-1].Microseconds-us) * time.Microsecond)
	}
	var spans []timeline.Span
	last := int64(0)
	for _, t := range boot {
		if t.Microseconds < last {
			continue
		}
		spans = append(spans, timeline.Span{Name: "guest: " + t.Step, Begin: at(last), End: at(t.Microseconds)})
		last = t.Microseconds
	}
	return spans
}
