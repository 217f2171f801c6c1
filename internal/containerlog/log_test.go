package containerlog

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readAll(t *testing.T, path string) (lines []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := NewReader(bytes.NewReader(data))
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, e.Stream+":"+string(e.Log))
	}
}

func TestLinesOfTwoStreams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	out, err := Open(path, "stdout")
	if err != nil {
		t.Fatal(err)
	}
	errs, err := Open(path, "stderr")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		w *Writer
		s string
	}{{out, "one\ntw"}, {errs, "bad\n"}, {out, "o\n\xff\x00bytes\n"}, {out, "no newline"}} {
		if _, err := io.WriteString(step.w, step.s); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(out.Close(), errs.Close()); err != nil {
		t.Fatal(err)
	}
	want := []string{"stdout:one\n", "stderr:bad\n", "stdout:two\n", "stdout:\xff\x00bytes\n", "stdout:no newline"}
	if diff := cmp.Diff(want, readAll(t, path)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestLongLinesAreSplit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := Open(path, "stdout")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 2*maxLine+5) + "\n"
	if _, err := io.WriteString(w, long); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	lines := readAll(t, path)
	if len(lines) != 3 {
		t.Fatalf("%d entries, want 3", len(lines))
	}
	var all strings.Builder
	for _, l := range lines {
		all.WriteString(strings.TrimPrefix(l, "stdout:"))
	}
	if all.String() != long {
		t.Error("the pieces do not make up the line")
	}
}

func TestReaderWaitsForTheRest(t *testing.T) {
	var b bytes.Buffer
	r := NewReader(&b)
	b.WriteString(`{"stream":"stdout","log":"`)
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("half an entry: %v, want EOF", err)
	}
	b.WriteString("aGk=\"}\n")
	e, err := r.Next()
	if err != nil || string(e.Log) != "hi" {
		t.Fatalf("whole entry: %+v, %v", e, err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-02T03:04:05Z","stream":"stdout","log":"aGk="}` + "\n"))
	f.Add([]byte("{}\n[]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		for range len(data) + 1 {
			if _, err := r.Next(); errors.Is(err, io.EOF) {
				return
			}
		}
		t.Fatal("the reader does not come to an end")
	})
}
