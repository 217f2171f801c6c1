package virtiofsd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The one thread that forks lives as long as the process.
		goleak.IgnoreAnyFunction("dougong.dev/dougong/internal/child.init.func1.1"))
}

// config is one for the real daemon, which the test needs.
func config(t *testing.T) Config {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("virtiofsd's sandbox needs root")
	}
	binary, err := Find("")
	if err != nil {
		t.Fatal(err)
	}
	return Config{Binary: binary, Dir: t.TempDir(), RunDir: t.TempDir(), Cache: "auto"}
}

func TestDaemonServes(t *testing.T) {
	c := config(t)
	d, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Stop()
	features(t, d)
	select {
	case <-d.Done():
		t.Fatalf("the daemon ended: %v", d.Err())
	default:
	}
	if left := names(t, c.RunDir); len(left) != 0 {
		t.Errorf("%v is in the sandbox's directory; nobody may connect any more", left)
	}
}

// features asks the daemon over vhost-user for its features.
func features(t *testing.T, d *Daemon) {
	t.Helper()
	conn, err := net.FileConn(d.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	const getFeatures, version1 = 1, 1
	request := binary.NativeEndian.AppendUint32(nil, getFeatures)
	request = binary.NativeEndian.AppendUint32(request, version1)
	request = binary.NativeEndian.AppendUint32(request, 0)
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 20)
	if _, err := io.ReadFull(conn, reply); err != nil {
		t.Fatalf("no answer: %v; the daemon says: %s", err, d.log)
	}
	const virtioVersion1 = 1 << 32
	if binary.NativeEndian.Uint32(reply) != getFeatures || binary.NativeEndian.Uint64(reply[12:])&virtioVersion1 == 0 {
		t.Errorf("the answer is %x", reply)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	c := config(t)
	d, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	// An answer means that the daemon has made its own sandbox by now.
	features(t, d)
	family := append(children(t, d.PID()), d.PID())
	if len(family) < 2 {
		t.Errorf("the daemon has no process of its own in the sandbox: %v", family)
	}
	var fds []int
	for _, pid := range family {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	d.Stop()
	<-d.Done()
	if err := d.Err(); err == nil || !strings.Contains(err.Error(), "virtiofsd ended: signal: killed") {
		t.Errorf("a daemon that was killed ended with %v", err)
	}
	for i, fd := range fds {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds())); n != 1 {
			t.Errorf("process %d lives on: %v", family[i], err)
		}
	}
	if left := append(names(t, c.RunDir), names(t, c.Dir)...); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

func children(t *testing.T, pid int) []int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for text := range strings.FieldsSeq(string(data)) {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestDaemonThatEnds runs a program that has nothing but last words.
func TestDaemonThatEnds(t *testing.T) {
	c := Config{Binary: script(t, "echo $* >&2; echo cannot go on >&2; exit 7"), Dir: t.TempDir(), RunDir: t.TempDir(), Cache: "none"}
	d, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Stop()
	select {
	case <-d.Done():
	case <-time.After(patience):
		t.Fatal("its end is not noticed")
	}
	for _, want := range []string{"exit status 7", "cannot go on", "source=" + c.Dir, "cache=none", "--fd=3"} {
		if err := d.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q in it", err, want)
		}
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStartErrors(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	file := script(t, "exit")
	tests := map[string]struct {
		c    Config
		is   error
		want string
	}{
		"missing binary":    {Config{Binary: "/none/virtiofsd", Dir: dir, RunDir: run}, nil, "virtiofsd is not at /none/virtiofsd: install it"},
		"not executable":    {Config{Binary: filepath.Join(dir, "."), Dir: dir, RunDir: run}, fs.ErrPermission, "start " + dir},
		"missing directory": {Config{Binary: file, Dir: "/none/dir", RunDir: run}, fs.ErrNotExist, "/none/dir"},
		"file to share":     {Config{Binary: file, Dir: file, RunDir: run}, errdefs.ErrInvalidArgument, "it is no directory"},
		"missing run dir":   {Config{Binary: file, Dir: dir, RunDir: "/none/run"}, fs.ErrNotExist, "/none/run"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := Start(t.Context(), tt.c)
			if err == nil {
				d.Stop()
				t.Fatal("it starts")
			}
			if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q and %v", err, tt.want, tt.is)
			}
			if left := names(t, run); len(left) != 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

func TestFind(t *testing.T) {
	file := script(t, "exit")
	if got, err := Find(file); got != file || err != nil {
		t.Errorf("Find(%q) = %q, %v", file, got, err)
	}
	if _, err := Find(filepath.Join(file, "below")); err == nil {
		t.Error("a path below a file is found")
	}
	_, err := first([]string{"/none/a", "/none/b"})
	if err == nil || !strings.Contains(err.Error(), "/none/a, /none/b") {
		t.Errorf("error is %v, want the places in it", err)
	}
	if got, err := first([]string{"/none/a", file}); got != file || err != nil {
		t.Errorf("the second place gives %q, %v", got, err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var l tail
	for i := range 3000 {
		fmt.Fprintf(&l, "line %d\n", i)
	}
	got := l.String()
	if len(got) > tailSize || !strings.HasSuffix(got, "line 2998\nline 2999") {
		t.Errorf("%d bytes are kept, at the end %q", len(got), got[max(0, len(got)-30):])
	}
}
