package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommandLine(t *testing.T) {
	line := readCommandLine(write(t, "cmdline", "quiet dougong.transport=vsock dougong.debug x=a=b\n"))
	if line["dougong.transport"] != "vsock" || line["x"] != "a=b" || line.level() >= 0 {
		t.Errorf("%v", line)
	}
	if line := readCommandLine("/nonexistent"); line.level() != 0 {
		t.Errorf("without a command line: level %v", line.level())
	}
	if _, _, err := connect(t.Context(), commandLine{"dougong.transport": "pigeon"}, nil); err == nil {
		t.Error("an unknown transport is no error")
	}
}

type fakePorts string

func (f fakePorts) Port(context.Context, string) (string, error) {
	if f == "" {
		return "", errors.New("no port")
	}
	return string(f), nil
}

func TestOpenPort(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "port")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	port, err := openPort(t.Context(), fakePorts(fifo))
	if err != nil {
		t.Fatal(err)
	}
	_ = port.Close()
	if _, err := openPort(t.Context(), fakePorts("")); err == nil {
		t.Error("a port that is not there is no error")
	}
}

func TestHungUp(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if hungUp(r) {
		t.Error("hung up with a writer")
	}
	_ = w.Close()
	if !hungUp(r) {
		t.Error("not hung up without one")
	}
}

func TestCountCPUs(t *testing.T) {
	for list, want := range map[string]uint32{"0": 1, "0-3": 4, "0-1,3,5-6": 5, "": 0, "x": 0, "3-1": 0} {
		if got := countCPUs(list); got != want {
			t.Errorf("%q: %d, want %d", list, got, want)
		}
	}
}

func TestKeyed(t *testing.T) {
	got, err := keyed(write(t, "meminfo", "MemTotal:  2 kB\nHugePages_Total: 7\nodd\n"))
	if err != nil || len(got) != 1 || got["MemTotal"] != 2048 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := info("", t.TempDir(), t.TempDir()); err == nil {
		t.Error("figures out of nothing")
	}
}

// The power goes soon after the answer, not after a fixed time.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			write time.Duration
			gone  time.Duration
			want  time.Duration
		}{
			"answered":  {write: time.Millisecond, gone: time.Hour, want: time.Millisecond + quietTime},
			"no answer": {write: time.Hour, gone: time.Hour, want: answerTime},
			"host gone": {write: time.Hour, gone: time.Millisecond, want: time.Millisecond},
		} {
			w := &watched{wrote: make(chan struct{}, 1)}
			w.wrote <- struct{}{} // of an earlier answer
			w.forget()
			gone := make(chan struct{})
			a, b := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, b) }()
			conn := &watchedConn{Conn: a, wrote: w.wrote}
			time.AfterFunc(c.write, func() { _, _ = conn.Write([]byte("answer")) })
			time.AfterFunc(c.gone, func() { close(gone) })
			started := time.Now()
			w.settle(gone)
			if took := time.Since(started); took != c.want {
				t.Errorf("%s: settled after %v, want %v", name, took, c.want)
			}
			_, _ = a.Close(), b.Close()
		}
	})
}
