package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dougong.dev/dougong/internal/timeline"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func span(name string, depth int, at, took float64) timeline.Span {
	begin := epoch.Add(seconds(at))
	return timeline.Span{Name: name, Depth: depth, Begin: begin, End: begin.Add(seconds(took))}
}

func TestStart(t *testing.T) {
	p := newStarts(rowRun)[rowRun]
	p.add([]timeline.Span{span("image", 0, 1, 1), span("template", 1, 2, 9), span("spawn", 1, 11, 2)})
	for _, took := range []float64{3, 4} {
		p.add([]timeline.Span{span("spawn", 1, 2, took), span("image", 0, 1, 1)})
	}
	want := Start{Row: rowRun, Phases: []Phase{{Name: "image", Took: 1}, {Name: "spawn", Depth: 1, At: 1, Took: 3}}}
	if diff := cmp.Diff(want, p.start(), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Error(diff)
	}
	spans := p.start().spans()
	if len(spans) != 2 || spans[1].Took() != 3*time.Second || spans[1].Begin.Sub(spans[0].Begin) != time.Second {
		t.Errorf("spans %v", spans)
	}
}

func TestPartsOf(t *testing.T) {
	spans := []timeline.Span{span("spawn", 1, 1, 1), span("restore", 1, 2, 1), span("agent", 1, 3, 2), span("configure", 1, 5, 1), span("create", 1, 7, 1), span("start", 1, 8, 1)}
	if got, err := partsOf(spans, "spawn"); err != nil || got != (parts{agent: 4, container: 3}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := partsOf(spans, "claim"); err == nil {
		t.Error("no error for a machine that was not claimed")
	}
	for i := range spans {
		if without := append(append([]timeline.Span{}, spans[:i]...), spans[i+1:]...); i != 1 && i != 4 {
			if _, err := partsOf(without, "spawn"); err == nil {
				t.Errorf("no error without %s", spans[i].Name)
			}
		}
	}
}

func TestTimedPhases(t *testing.T) {
	good := `echo a warning >&2; echo '[{"name":"spawn","begin":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:06Z"}]' >&2`
	spans, took, err := timedPhases(fakeCommand(t, good).dougong(t.Context(), "run"))
	if err != nil || len(spans) != 1 || spans[0].Took() != time.Second || took <= 0 {
		t.Errorf("%v, %v, %v", spans, took, err)
	}
	for script, says := range map[string]string{
		"echo no such image >&2; exit 125": "exit status 125: no such image",
		"echo nonsense >&2":                "read timing",
		"true":                             "read timing",
	} {
		_, _, err := timedPhases(fakeCommand(t, script).dougong(t.Context(), "run"))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want %q", script, err, says)
		}
	}
}

func TestSegments(t *testing.T) {
	s := Start{Phases: []Phase{
		{Name: "image", Took: 1},
		{Name: "container", At: 1, Took: 8},
		{Name: "spawn", Depth: 1, At: 2, Took: 2},
		{Name: "guest: kernel", Depth: 2, At: 2, Took: 5},
		{Name: "start", Depth: 1, At: 4, Took: 3},
		{Name: "first byte", At: 8, Took: 1},
		{Name: "command", At: 6, Took: 3},
	}}
	want := []segment{{"image", 1}, {"", 1}, {"spawn", 2}, {"start", 3}, {"command", 2}, {"", 1}}
	if diff := cmp.Diff(want, segments(s, 10), cmp.AllowUnexported(segment{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]segment{{"", 10}}, segments(Start{}, 10), cmp.AllowUnexported(segment{})); diff != "" {
		t.Error(diff)
	}
}

func TestKernelSpans(t *testing.T) {
	text := "junk\r\n[    0.000000] first\r\n[    0.100000] second\r\n[    0.050000] out of order\n[x] no time\n[    0.400000] a " + strings.Repeat("long ", 20) + "line\n[    0.410000] last\n"
	spans := kernelSpans(text, 2)
	if len(spans) != 2 || spans[0].Name != "second" || !strings.HasSuffix(spans[1].Name, "…") || spans[1].Took().Round(time.Millisecond) != 300*time.Millisecond {
		t.Errorf("%v", spans)
	}
	if spans := kernelSpans("", 5); len(spans) != 0 {
		t.Errorf("%v", spans)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	m := &messages{}
	line := []byte(strings.Repeat("x", 4096))
	for range 2 * maxMessages / len(line) {
		if n, err := m.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if n := len(m.String()); n != maxMessages {
		t.Errorf("%d bytes are kept", n)
	}
}
