package bench

import (
	"errors"
	"io"
	"math"
	"os/exec"
	"strings"
	"testing"
)

func TestElapsed(t *testing.T) {
	for line, want := range map[string]float64{
		"10.50 12.25\n": 1.75, "0 1e1": 10,
		"": 0, "1": 0, "1 2 3": 0, "x 2": 0, "1 x": 0, "2 1": 0, "1 1": 0, "NaN NaN": 0,
	} {
		got, err := elapsed(line)
		if (err == nil) != (want > 0) || math.Abs(got-want) > 1e-9 {
			t.Errorf("%q: %v, %v; want %v", line, got, err, want)
		}
	}
}

func FuzzElapsed(f *testing.F) {
	f.Add("1.5 2.5")
	f.Add("-inf +inf")
	f.Fuzz(func(t *testing.T, line string) {
		if got, err := elapsed(line); err == nil && !(got > 0) {
			t.Errorf("%q: %v", line, got)
		}
	})
}

func TestStream(t *testing.T) {
	const size = 1 << 20
	for name, tt := range map[string]struct {
		script  string
		in, out int64
		says    string
	}{
		"in":                 {"echo up; exec cat > /dev/null", size, 0, ""},
		"out":                {"echo up; exec head -c 1048576 /dev/zero", 0, size, ""},
		"both":               {"echo up; exec cat", size, size, ""},
		"short":              {"echo up; exec head -c 1000 /dev/zero", 0, size, "1000 bytes came out"},
		"more than wanted":   {"echo up; exec head -c 1000 /dev/zero", 0, 999, "1000 bytes came out"},
		"another greeting":   {"echo down; exec cat", size, size, "down"},
		"nothing":            {"exec true", size, size, "EOF"},
		"failure":            {"echo up; echo broken >&2; exit 3", 0, 0, "broken"},
		"ends without input": {"echo up; exec true", size, size, "0 bytes came out"},
	} {
		t.Run(name, func(t *testing.T) {
			rate, err := stream(exec.Command("sh", "-c", tt.script), "up\n", tt.in, tt.out)
			if tt.says == "" && (err != nil || !(rate > 0)) {
				t.Errorf("rate %v, %v", rate, err)
			}
			if tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("error %v, want %q", err, tt.says)
			}
		})
	}
}

// TestPumpEndsWithItsProcess wants the error of a process that dies.
func TestPumpEndsWithItsProcess(t *testing.T) {
	died := errors.New("it died")
	_, err := pump(nil, strings.NewReader("up\n"), "up\n", 0, 0, func() error { return died })
	if !errors.Is(err, died) {
		t.Errorf("error %v", err)
	}
}

func TestZeros(t *testing.T) {
	b := []byte{1, 2, 3}
	if n, err := io.ReadFull(zeros{}, b); n != 3 || err != nil || string(b) != "\x00\x00\x00" {
		t.Errorf("read %d, %v: %v", n, err, b)
	}
}
