package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/socket"
)

func TestCommandError(t *testing.T) {
	tests := []struct {
		err  error
		code int
	}{
		{fmt.Errorf(`exec "nope": executable file not found in $PATH: %w`, errdefs.ErrNotFound), CodeNotFound},
		{fmt.Errorf(`start: exec "/etc": permission denied: %w`, errdefs.ErrPermissionDenied), CodeNotExecutable},
		{fmt.Errorf(`exec "x": out of memory: %w`, errdefs.ErrResourceExhausted), CodeEngine},
		// The container itself is not there: no fault of the command.
		{fmt.Errorf("container c1: %w", errdefs.ErrNotFound), CodeEngine},
		{fmt.Errorf("open /dev/kvm: %w", errdefs.ErrPermissionDenied), CodeEngine},
		{errors.New("the guest did not answer"), CodeEngine},
	}
	for _, tt := range tests {
		exit, ok := errors.AsType[*ExitError](CommandError(tt.err))
		if !ok || exit.Code != tt.code || !errors.Is(exit, tt.err) || exit.Error() != tt.err.Error() {
			t.Errorf("%v gives %+v, want code %d and the same text", tt.err, exit, tt.code)
		}
	}
}

func TestExitError(t *testing.T) {
	if EngineError(nil) != nil {
		t.Error("no error has become one")
	}
	cause := errors.New("no room")
	if exit, ok := errors.AsType[*ExitError](EngineError(cause)); !ok || exit.Code != 125 || !errors.Is(exit, cause) {
		t.Errorf("EngineError gives %+v", exit)
	}
	if got := (&ExitError{Code: 3}).Error(); got != "exit status 3" {
		t.Errorf("text is %q", got)
	}
}

func sandboxDir(t *testing.T) record.Dir {
	t.Helper()
	root, err := record.NewRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, lock, err := root.Create(record.Record{ID: record.NewID(), Name: "one"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	return dir
}

func TestDialOfAnEndedSandbox(t *testing.T) {
	dir := sandboxDir(t)
	_, err := Dial(dir)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "container "+dir.ID[:12]+" is not running") {
		t.Errorf("error is %v", err)
	}
}

func TestClientSeesTheOtherEndGo(t *testing.T) {
	dir := sandboxDir(t)
	l, err := socket.Listen(dir.Path(), filepath.Base(dir.Socket()))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if !c.Connected() {
		t.Error("a live sandbox counts as gone")
	}
	conn.Close()
	await(t, c.gone, "end of the connection")
	if c.Connected() {
		t.Error("a sandbox that went away counts as live")
	}
}

func TestLastWords(t *testing.T) {
	var long strings.Builder
	for i := range 20 {
		fmt.Fprintf(&long, "line %d\n", i)
	}
	tests := map[string]string{
		"":            "none",
		" \n\n":       "none",
		"one\n":       "one",
		"one\ntwo\n":  "one\n  two",
		long.String(): "line 15\n  line 16\n  line 17\n  line 18\n  line 19",
		"a\npanic: nil map\n\ngoroutine 1\nmain.main()\nb\nc\nd\n": "panic: nil map\n  \n  goroutine 1\n  main.main()\n  b",
	}
	for text, want := range tests {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastWords(path); got != want {
			t.Errorf("the last words of %q are %q, want %q", text, got, want)
		}
	}
	if got := lastWords("/none/log"); got != "none" {
		t.Errorf("the last words of no log are %q", got)
	}
}
