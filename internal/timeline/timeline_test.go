package timeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func span(name string, begin, end int, depth int) Span {
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	return Span{Name: name, Begin: at(begin), End: at(end), Depth: depth}
}

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	spans := []Span{span("first byte", 90, 100, 0), span("image", 0, 10, 0), span("create", 10, 90, 0), span("restore", 20, 40, 1), span("at once", 50, 50, 1)}
	if err := Write(&b, "start of box", spans); err != nil {
		t.Fatal(err)
	}
	want := `start of box
phase              at       took
image          0.0 ms    10.0 ms  █████
create        10.0 ms    80.0 ms       ████████████████████████████████████████
  restore     20.0 ms    20.0 ms            ▒▒▒▒▒▒▒▒▒▒
  at once     50.0 ms     0.0 ms                           ▒
first byte    90.0 ms    10.0 ms                                               █████
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteNothing(t *testing.T) {
	for _, spans := range [][]Span{nil, {span("no time", 5, 5, 0)}} {
		if err := Write(&bytes.Buffer{}, "t", spans); err != nil {
			t.Error(err)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestWriteError(t *testing.T) {
	if err := Write(full{}, "t", nil); err == nil {
		t.Error("no error of the writer")
	}
}

func TestRecorder(t *testing.T) {
	var r Recorder
	var all sync.WaitGroup
	for range 8 {
		all.Go(r.Begin("phase"))
	}
	all.Wait()
	spans, first := r.Close()
	if len(spans) != 8 || !first {
		t.Errorf("%d spans, first %v", len(spans), first)
	}
	r.Begin("late")()
	if spans, first := r.Close(); len(spans) != 8 || first {
		t.Errorf("after the end: %d spans, first %v", len(spans), first)
	}
	for i := range spans[1:] {
		if spans[i+1].Begin.Before(spans[i].Begin) {
			t.Error("spans are not in order")
		}
	}
}

func TestRecorderIsBounded(t *testing.T) {
	var r Recorder
	for range 10 * maxSpans {
		r.Add(span("x", 0, 1, 0))
	}
	if spans, _ := r.Close(); len(spans) != maxSpans {
		t.Errorf("%d spans are kept", len(spans))
	}
}

func TestSortPutsTheWholeFirst(t *testing.T) {
	got := Sort([]Span{span("part", 0, 1, 1), span("whole", 0, 2, 0)})
	if got[0].Name != "whole" {
		t.Errorf("%s goes first", got[0].Name)
	}
}

func TestUnder(t *testing.T) {
	spans := []Span{span("a", 0, 1, 1)}
	if got := Under(spans); got[0].Depth != 2 || spans[0].Depth != 1 {
		t.Errorf("got depth %d, and the argument has %d", got[0].Depth, spans[0].Depth)
	}
}

func TestComesBack(t *testing.T) {
	want := []Span{span("a", 0, 1, 0), span("b", 1, 3, 2)}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got []Span
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAttr(t *testing.T) {
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", Attr("phase", []Span{span("restore", 0, 3, 0)}))
	if !strings.Contains(b.String(), "phase.restore=3ms") {
		t.Error(b.String())
	}
}
