package shim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/containerlog"
	"dougong.dev/dougong/internal/sandbox"
)

// starter is the thread that forks children; it stays once it is there.
var starter = goleak.IgnoreTopFunction("dougong.dev/dougong/internal/child.init.func1.1")

const patience = 20 * time.Second

// fifos makes a FIFO for each name and returns their directory.
func fifos(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

type opened struct {
	stdio sandbox.Stdio
	err   error
}

func open(ctx context.Context, u URIs) <-chan opened {
	done := make(chan opened, 1)
	go func() {
		stdio, err := OpenStdio(ctx, u)
		done <- opened{stdio, err}
	}()
	return done
}

func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing happens", what)
		panic("unreachable")
	}
}

func openFile(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOutputWaitsForItsReader(t *testing.T) {
	defer goleak.VerifyNone(t, starter)
	dir := fifos(t, "out", "err")
	done := open(t.Context(), URIs{Stdout: filepath.Join(dir, "out"), Stderr: "fifo://" + filepath.Join(dir, "err")})
	// The readers come late, each by itself.
	out := openFile(t, filepath.Join(dir, "out"), os.O_RDONLY)
	errs := openFile(t, filepath.Join(dir, "err"), os.O_RDONLY)
	o := await(t, done, "open output")
	if o.err != nil {
		t.Fatal(o.err)
	}
	if err := errors.Join(write(o.stdio.Stdout, "result"), write(o.stdio.Stderr, "complaint")); err != nil {
		t.Fatal(err)
	}
	o.stdio.Close()
	for f, want := range map[*os.File]string{out: "result", errs: "complaint"} {
		if got, err := io.ReadAll(f); string(got) != want || err != nil {
			t.Errorf("read %q, %v, want %q and its end", got, err, want)
		}
	}
}

func write(w io.Writer, s string) error {
	_, err := io.WriteString(w, s)
	return err
}

// TestReaderMayComeAndGo detaches and attaches: a process must not die of
// SIGPIPE because nobody looks at it.
func TestReaderMayComeAndGo(t *testing.T) {
	defer goleak.VerifyNone(t, starter)
	dir := fifos(t, "out")
	path := filepath.Join(dir, "out")
	done := open(t.Context(), URIs{Stdout: path})
	first := openFile(t, path, os.O_RDONLY)
	o := await(t, done, "open output")
	if o.err != nil {
		t.Fatal(o.err)
	}
	first.Close()
	if err := write(o.stdio.Stdout, "unseen"); err != nil {
		t.Fatalf("writing without a reader: %v", err)
	}
	second := openFile(t, path, os.O_RDONLY)
	o.stdio.Close()
	if got, err := io.ReadAll(second); string(got) != "unseen" || err != nil {
		t.Errorf("the next reader gets %q, %v", got, err)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	defer goleak.VerifyNone(t, starter)
	dir := fifos(t, "in", "out")
	ctx, cancel := context.WithCancel(t.Context())
	done := open(ctx, URIs{Stdin: filepath.Join(dir, "in"), Stdout: filepath.Join(dir, "out")})
	cancel()
	if o := await(t, done, "cancel"); o.err == nil || o.stdio.Stdin != nil || o.stdio.Stdout != nil {
		t.Errorf("output that nobody reads opens as %v, %v", o.stdio, o.err)
	}
}

func TestInput(t *testing.T) {
	defer goleak.VerifyNone(t, starter)
	dir := fifos(t, "in")
	path := filepath.Join(dir, "in")
	stdio, err := OpenStdio(t.Context(), URIs{Stdin: path})
	if err != nil {
		t.Fatal(err)
	}
	defer stdio.Close()
	if stdio.Stdout != nil || stdio.Stderr != nil {
		t.Errorf("output nobody asked for is connected: %v", stdio)
	}
	lines := bufio.NewReader(stdio.Stdin)
	type read struct {
		line string
		err  error
	}
	// Two clients after each other: the first one's end is not the input's.
	for _, want := range []string{"one\n", "two\n"} {
		// The FIFO is opened by the first who reads.
		reads := make(chan read, 1)
		go func() {
			line, err := lines.ReadString('\n')
			reads <- read{line, err}
		}()
		client := openFile(t, path, os.O_WRONLY)
		if err := write(client, want); err != nil {
			t.Fatal(err)
		}
		client.Close()
		if got := await(t, reads, "line"); got.line != want || got.err != nil {
			t.Errorf("read %q, %v, want %q", got.line, got.err, want)
		}
	}
	stdio.EndInput()
	ended := make(chan error, 1)
	go func() {
		_, err := lines.ReadByte()
		ended <- err
	}()
	if err := await(t, ended, "end of input"); !errors.Is(err, io.EOF) {
		t.Errorf("after EndInput reading gives %v, want EOF", err)
	}
	stdio.EndInput()
}

func TestInputThatEndsBeforeItIsRead(t *testing.T) {
	defer goleak.VerifyNone(t, starter)
	dir := fifos(t, "in")
	stdio, err := OpenStdio(t.Context(), URIs{Stdin: filepath.Join(dir, "in")})
	if err != nil {
		t.Fatal(err)
	}
	defer stdio.Close()
	stdio.EndInput()
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(stdio.Stdin)
		ended <- err
	}()
	if err := await(t, ended, "end of input"); err != nil {
		t.Errorf("reading gives %v", err)
	}
}

func TestInputIsNotOpenedOnceItIsClosed(t *testing.T) {
	dir := fifos(t, "in")
	stdio, err := OpenStdio(t.Context(), URIs{Stdin: filepath.Join(dir, "in")})
	if err != nil {
		t.Fatal(err)
	}
	stdio.Close()
	if _, err := stdio.Stdin.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading gives %v, want %v", err, os.ErrClosed)
	}
}

func TestFilesAndLogs(t *testing.T) {
	dir := t.TempDir()
	file, log := filepath.Join(dir, "file"), filepath.Join(dir, "log")
	for range 2 {
		stdio, err := OpenStdio(t.Context(), URIs{Stdout: "file://" + file, Stderr: "log://" + log})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(write(stdio.Stdout, "line\n"), write(stdio.Stderr, "complaint\n")); err != nil {
			t.Fatal(err)
		}
		stdio.Close()
	}
	if got, err := os.ReadFile(file); string(got) != "line\nline\n" || err != nil {
		t.Errorf("the file holds %q, %v; it is to be appended to", got, err)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) != 2 {
		t.Errorf("the log has %d lines, want 2", len(lines))
	}
	for _, line := range lines {
		var e containerlog.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Stream != "stderr" || string(e.Log) != "complaint\n" {
			t.Errorf("entry %s is %+v, %v", line, e, err)
		}
	}
}

func TestTerminalHasNoStderr(t *testing.T) {
	dir := t.TempDir()
	stdio, err := OpenStdio(t.Context(), URIs{Stdout: "file://" + filepath.Join(dir, "out"), Stderr: "/none/err", Terminal: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stdio.Close()
	if stdio.Stderr != nil {
		t.Error("a terminal has a stderr")
	}
}

func TestOpenErrors(t *testing.T) {
	defer goleak.VerifyNone(t, starter)
	dir := fifos(t, "in")
	in := filepath.Join(dir, "in")
	tests := map[string]struct {
		u  URIs
		is error
	}{
		"unknown scheme":           {URIs{Stdout: "ftp:///out"}, errdefs.ErrNotImplemented},
		"no scheme":                {URIs{Stdout: "relative/path"}, errdefs.ErrNotImplemented},
		"bad URI":                  {URIs{Stdout: "file://%zz"}, errdefs.ErrInvalidArgument},
		"bad input URI":            {URIs{Stdin: "fifo://%zz"}, errdefs.ErrInvalidArgument},
		"missing input":            {URIs{Stdin: "/none/in"}, fs.ErrNotExist},
		"missing output":           {URIs{Stdout: "/none/out"}, fs.ErrNotExist},
		"missing place of a file":  {URIs{Stdin: in, Stdout: "file:///none/out"}, fs.ErrNotExist},
		"missing place of a log":   {URIs{Stdin: in, Stdout: "log:///none/out"}, fs.ErrNotExist},
		"second of two is missing": {URIs{Stdin: in, Stdout: "file://" + filepath.Join(dir, "out"), Stderr: "log:///none/err"}, fs.ErrNotExist},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			stdio, err := OpenStdio(t.Context(), tt.u)
			if !errors.Is(err, tt.is) {
				t.Errorf("error is %v, want %v", err, tt.is)
			}
			if stdio.Stdin != nil || stdio.Stdout != nil || stdio.Stderr != nil {
				t.Errorf("ends are handed out with an error: %v", stdio)
			}
		})
	}
}
