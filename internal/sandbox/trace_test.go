package sandbox

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dougong.dev/dougong/internal/timeline"
	"dougong.dev/dougong/internal/transport"
)

func TestBootSpans(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	for name, tt := range map[string]struct {
		boot []transport.Timing
		want []timeline.Span
	}{
		"nothing": {nil, nil},
		"in order": {
			[]transport.Timing{{Step: "kernel", Microseconds: 700_000}, {Step: "ready", Microseconds: 900_000}},
			[]timeline.Span{{Name: "guest: kernel", Begin: at(-900), End: at(-200)}, {Name: "guest: ready", Begin: at(-200), End: at(0)}},
		},
		"out of order": {
			[]transport.Timing{{Step: "kernel", Microseconds: -1}, {Step: "ready", Microseconds: 1000}},
			[]timeline.Span{{Name: "guest: ready", Begin: at(-1), End: at(0)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, bootSpans(tt.boot, now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestBootSpansOfALiar: a guest that lies gets a strange picture, and no more.
func TestBootSpansOfALiar(t *testing.T) {
	for _, us := range []int64{math.MinInt64, math.MaxInt64} {
		bootSpans([]transport.Timing{{Step: "a", Microseconds: us}, {Step: "b", Microseconds: -us}}, time.Now())
	}
}

func TestTraceStart(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	s := &Sandbox{opts: Options{ID: "box"}}
	s.phase(t.Context(), "restore")()
	s.traceStart(t.Context())
	s.phase(t.Context(), "exec")()
	s.traceStart(t.Context())
	if n := strings.Count(log.String(), `msg="container started"`); n != 1 || !strings.Contains(log.String(), "phase.restore=") {
		t.Errorf("%d lines about the start:\n%s", n, &log)
	}
	if spans := s.Timeline(); len(spans) != 1 || spans[0].Name != "restore" {
		t.Errorf("timeline %v", spans)
	}
}
