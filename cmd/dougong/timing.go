package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/timeline"
)

// Forms in which --timing tells how long a start took.
const (
	timingText = "text"
	timingJSON = "json"
)

// timing follows one start as this process sees it. A nil one does nothing.
type timing struct {
	form  string
	begin time.Time
	own   timeline.Recorder
	// sandbox has the phases that the sandbox process went through.
	sandbox []timeline.Span
	once    sync.Once

	mu sync.Mutex
	// started is when the container ran; a write to an output ends the wait
	// for its first byte.
	started time.Time
}

func newTiming(form string) (*timing, error) {
	switch form {
	case "":
		return nil, nil
	case timingText, timingJSON:
		return &timing{form: form, begin: time.Now()}, nil
	}
	return nil, fmt.Errorf("--timing=%s: want %s or %s", form, timingText, timingJSON)
}

// phase begins a phase, which the returned function ends.
func (t *timing) phase(name string) func() {
	if t == nil {
		return func() {}
	}
	return t.own.Begin(name)
}

// running is called when the container has started.
func (t *timing) running(dir record.Dir) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	t.started = time.Now()
	t.mu.Unlock()
	return dir.Start(&t.sandbox)
}

// watch returns w, or one that notes when the first byte comes by.
func (t *timing) watch(w io.Writer) io.Writer {
	if t == nil {
		return w
	}
	return &firstByte{Writer: w, timing: t}
}

type firstByte struct {
	io.Writer
	timing *timing
}

// Write implements io.Writer.
func (f *firstByte) Write(p []byte) (int, error) {
	f.timing.once.Do(f.timing.answered)
	return f.Writer.Write(p)
}

// answered notes the container's first byte. It can come before this process
// has heard that the container runs.
func (t *timing) answered() {
	now := time.Now()
	t.mu.Lock()
	begin := t.started
	t.mu.Unlock()
	if begin.IsZero() {
		begin = now
	}
	t.own.Add(timeline.Span{Name: "first byte", Begin: begin, End: now})
}

// report prints all phases. The command's own output went before it.
func (t *timing) report(w io.Writer) error {
	if t == nil {
		return nil
	}
	own, _ := t.own.Close()
	spans := timeline.Sort(append(own, timeline.Under(t.sandbox)...))
	if t.form == timingJSON {
		return json.NewEncoder(w).Encode(spans)
	}
	_, end := timeline.Bounds(spans)
	return timeline.Write(w, fmt.Sprintf("\n%s start, %.3f s from the command's begin to its end:", kind(t.sandbox), end.Sub(t.begin).Seconds()), spans)
}

// kind says how the machine came to be.
func kind(sandbox []timeline.Span) string {
	pooled := false
	for _, s := range sandbox {
		switch s.Name {
		case "restore", "thaw":
			return "clone"
		case "outfit":
			pooled = true
		}
	}
	if pooled {
		return "pool"
	}
	return "cold"
}

// reportTiming prints the timing and keeps the error before it.
func reportTiming(t *timing, err error) error {
	if rerr := t.report(os.Stderr); err == nil && rerr != nil {
		return engine.EngineError(rerr)
	}
	return err
}
