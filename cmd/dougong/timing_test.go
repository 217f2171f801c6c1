package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"dougong.dev/dougong/internal/timeline"
)

func TestTimingForms(t *testing.T) {
	for form, ok := range map[string]bool{"": true, "text": true, "json": true, "yes": false} {
		if _, err := newTiming(form); (err == nil) != ok {
			t.Errorf("--timing=%s: %v", form, err)
		}
	}
}

// TestNoTiming goes through a start that nobody asked about.
func TestNoTiming(t *testing.T) {
	times, err := newTiming("")
	if err != nil || times != nil {
		t.Fatal(times, err)
	}
	times.phase("image")()
	var out bytes.Buffer
	if w := times.watch(&out); w != io.Writer(&out) {
		t.Error("the output is watched")
	}
	if err := times.report(&out); err != nil || out.Len() > 0 {
		t.Errorf("it reports %q, %v", out.String(), err)
	}
}

func TestTimingReport(t *testing.T) {
	times, err := newTiming(timingJSON)
	if err != nil {
		t.Fatal(err)
	}
	times.phase("image")()
	restore := timeline.Span{Name: "restore", Begin: time.Now(), End: time.Now()}
	times.sandbox = []timeline.Span{restore}
	var out bytes.Buffer
	w := times.watch(&out)
	for range 3 {
		if _, err := io.WriteString(w, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if out.String() != "xxx" {
		t.Errorf("the output became %q", out.String())
	}
	out.Reset()
	if err := times.report(&out); err != nil {
		t.Fatal(err)
	}
	var spans []timeline.Span
	if err := json.Unmarshal(out.Bytes(), &spans); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range spans {
		names = append(names, strings.Repeat(" ", s.Depth)+s.Name)
	}
	if got := strings.Join(names, ","); got != "image, restore,first byte" {
		t.Errorf("spans %s", got)
	}
}

func TestKindOfStart(t *testing.T) {
	for name, want := range map[string]string{"restore": "clone", "boot": "cold"} {
		if got := kind([]timeline.Span{{Name: name}}); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
