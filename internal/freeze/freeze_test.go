package freeze

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/child"
)

func TestMain(m *testing.M) {
	if IsHelper() {
		if err := Helper(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// pair returns both ends of a line, which is closed with the test.
func pair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// say sends a line and returns the answer.
func say(t *testing.T, f *os.File, line string) string {
	t.Helper()
	if _, err := fmt.Fprintln(f, line); err != nil {
		t.Fatal(err)
	}
	if err := f.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// talker is a process with a thread, a handler, and memory that changes.
const talker = `
import os, signal, socket, threading
os.closerange(4, 1024)
s = socket.socket(fileno=3)
s.setblocking(True)
count = 0
go, gone = threading.Event(), threading.Event()
def work():
    global count
    while True:
        go.wait(); go.clear()
        count += 1
        gone.set()
threading.Thread(target=work, daemon=True).start()
caught = []
signal.signal(signal.SIGUSR1, lambda *a: caught.append(1))
while True:
    line = s.recv(100).decode().strip()
    if line == "signal":
        os.kill(os.getpid(), signal.SIGUSR1)
    go.set(); gone.wait(); gone.clear()
    s.sendall(f"{line} {count} {len(caught)}\n".encode())
    if line == "end":
        os._exit(5)
`

// started is a talker and the line to it.
func started(t *testing.T, script string) (*child.Process, *os.File) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may look into filters")
	}
	ours, theirs := pair(t)
	cmd := exec.Command("python3", "-c", script)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{theirs}, os.Stderr
	p, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p, ours
}

var known = Known{Numbers: map[int]string{2: "stderr", 3: "line"}}

// thawed is a copy, and the line to it.
func thawed(t *testing.T, i *Image, title ...string) (*child.Process, *os.File) {
	t.Helper()
	ours, theirs := pair(t)
	p, err := i.Thaw(Places{Files: map[string]*os.File{"line": theirs, "stderr": os.Stderr}, Title: title})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p, ours
}

func load(t *testing.T, dir string) *Image {
	t.Helper()
	i, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestCopies(t *testing.T) {
	p, line := started(t, talker)
	if got := say(t, line, "a"); got != "a 1 0\n" {
		t.Fatalf("got %q", got)
	}
	dir := t.TempDir()
	if err := Freeze(t.Context(), p.PID(), dir, known); err != nil {
		t.Fatal(err)
	}
	if got := say(t, line, "b"); got != "b 2 0\n" {
		t.Fatalf("after it was frozen: %q", got)
	}
	p.Kill()
	for range 3 {
		c, line := thawed(t, load(t, dir), "copy", "of it")
		if got := say(t, line, "signal"); got != "signal 2 1\n" {
			t.Errorf("got %q", got)
		}
		if got := say(t, line, "c"); got != "c 3 1\n" {
			t.Errorf("got %q", got)
		}
		arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.PID()))
		if err != nil || !strings.HasPrefix(string(arguments), "copy\x00of it\x00") {
			t.Errorf("arguments %q, %v", arguments, err)
		}
		// An end that is its own is seen.
		if got := say(t, line, "end"); got != "end 4 1\n" {
			t.Errorf("got %q", got)
		}
		<-c.Done()
		if c.Err() == nil || !strings.Contains(c.Err().Error(), "exit status 5") {
			t.Errorf("it ended with %v", c.Err())
		}
	}
}

// TestCopyOfACopy freezes what was thawed.
func TestCopyOfACopy(t *testing.T) {
	p, line := started(t, talker)
	say(t, line, "a")
	first, second := t.TempDir(), t.TempDir()
	if err := Freeze(t.Context(), p.PID(), first, known); err != nil {
		t.Fatal(err)
	}
	c, line := thawed(t, load(t, first))
	say(t, line, "b")
	if err := Freeze(t.Context(), c.PID(), second, known); err != nil {
		t.Fatal(err)
	}
	c.Kill()
	_, line = thawed(t, load(t, second))
	if got := say(t, line, "c"); got != "c 3 0\n" {
		t.Errorf("got %q", got)
	}
}

// TestKindsOfFiles has the copy's own kinds of files work.
func TestKindsOfFiles(t *testing.T) {
	p, line := started(t, `
import ctypes, os, select, signal, socket
os.closerange(4, 1024)
s = socket.socket(fileno=3)
s.setblocking(True)
libc = ctypes.CDLL(None)
event = libc.eventfd(2, 0)
poll = select.epoll()
poll.register(event, select.EPOLLIN)
memory = os.memfd_create("empty")
os.ftruncate(memory, 8192)
null = os.open("/dev/null", os.O_RDWR)
os.dup2(null, 40)
while True:
    line = s.recv(100).decode().strip()
    seen = poll.poll(0)
    count = int.from_bytes(os.read(event, 8), "little") if seen else 0
    os.write(event, (1).to_bytes(8, "little"))
    size = os.fstat(memory).st_size
    os.write(40, b"x")
    s.sendall(f"{line} {count} {size}\n".encode())
`)
	if got := say(t, line, "a"); got != "a 2 8192\n" {
		t.Fatalf("got %q", got)
	}
	dir := t.TempDir()
	if err := Freeze(t.Context(), p.PID(), dir, known); err != nil {
		t.Fatal(err)
	}
	// Each has an event of its own.
	for range 2 {
		_, line := thawed(t, load(t, dir))
		if got := say(t, line, "b"); got != "b 1 8192\n" {
			t.Errorf("got %q", got)
		}
		if got := say(t, line, "c"); got != "c 1 8192\n" {
			t.Errorf("got %q", got)
		}
	}
}

// TestRefused freezes nothing that it could not make again, and the process
// goes on.
func TestRefused(t *testing.T) {
	const loop = "\nwhile True: s.sendall(s.recv(100))\n"
	const begin = "import os, socket, mmap\nos.closerange(4, 1024)\ns = socket.socket(fileno=3)\ns.setblocking(True)\n"
	for name, script := range map[string]string{
		"pipe:":         "p = os.pipe()",
		"socket:":       "p = socket.socket()",
		"bytes in it":   "f = os.memfd_create('full'); os.write(f, b'x')",
		"shared memory": "m = mmap.mmap(-1, 4096)",
	} {
		t.Run(name, func(t *testing.T) {
			p, line := started(t, begin+script+loop)
			say(t, line, "a")
			dir := t.TempDir()
			if err := Freeze(t.Context(), p.PID(), dir, known); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v, want %q", err, name)
			}
			if _, err := os.Stat(filepath.Join(dir, fileManifest)); !os.IsNotExist(err) {
				t.Errorf("a manifest: %v", err)
			}
			if got := say(t, line, "b"); got != "b\n" {
				t.Errorf("got %q", got)
			}
		})
	}
	if err := Freeze(t.Context(), 1<<30, t.TempDir(), known); err == nil {
		t.Error("froze a process that is not there")
	}
}

// TestThawFails leaves nothing.
func TestThawFails(t *testing.T) {
	p, line := started(t, talker)
	say(t, line, "a")
	dir := t.TempDir()
	if err := Freeze(t.Context(), p.PID(), dir, known); err != nil {
		t.Fatal(err)
	}
	if _, err := load(t, dir).Thaw(Places{Files: map[string]*os.File{"stderr": os.Stderr}}); err == nil || !strings.Contains(err.Error(), `no file "line"`) {
		t.Errorf("without a file: %v", err)
	}
	before := children(t)
	for name, damage := range map[string]func(i *Image){
		"first step": func(i *Image) { binary.LittleEndian.PutUint64(i.Steps, 1<<20) },
		"last step":  func(i *Image) { binary.LittleEndian.PutUint64(i.Steps[len(i.Steps)-stepSize:], 1<<20) },
		"one thread": func(i *Image) { i.Threads = i.Threads[:1] },
		"clock":      func(i *Image) { i.Kernel = i.Kernel[1:] },
	} {
		i := load(t, dir)
		damage(i)
		_, theirs := pair(t)
		if _, err := i.Thaw(Places{Files: map[string]*os.File{"line": theirs, "stderr": os.Stderr}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if after := children(t); after != before {
		t.Errorf("%d processes and not %d", after, before)
	}
}

// children counts this process's.
func children(t *testing.T) int {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range lists {
		data, err := os.ReadFile(path)
		if err == nil {
			n += len(strings.Fields(string(data)))
		}
	}
	return n
}

func TestLoad(t *testing.T) {
	id, err := BootID()
	if err != nil {
		t.Fatal(err)
	}
	lib := filepath.Join(t.TempDir(), "lib.so")
	if err := os.WriteFile(lib, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	identity, err := identify(lib)
	if err != nil {
		t.Fatal(err)
	}
	good := func() *Image {
		return &Image{BootID: id, Threads: make([]thread, 1), Mapped: []mapped{{lib, identity}}, Title: place{"arguments", 1, 2}, Pages: 3}
	}
	for name, tt := range map[string]struct {
		change func(i *Image)
		want   string
	}{
		"good":          {func(*Image) {}, ""},
		"other boot":    {func(i *Image) { i.BootID = "x" }, "before this machine was booted"},
		"replaced file": {func(i *Image) { i.Mapped[0].Identity = "x" }, lib},
		"no file":       {func(i *Image) { i.Mapped[0].Path = "/no/such/file" }, "/no/such/file"},
		"no threads":    {func(i *Image) { i.Threads = nil }, "not whole"},
		"long":          {func(i *Image) { i.Steps = make([]byte, maxSteps+1) }, "not whole"},
		"step outside":  {func(i *Image) { i.Shared = []sharedStep{{"memory", 0}} }, "not whole"},
		"short pages":   {func(i *Image) { i.Pages = 4 }, "not whole"},
		"no arguments":  {func(i *Image) { i.Title = place{} }, "not whole"},
	} {
		t.Run(name, func(t *testing.T) {
			i, dir := good(), t.TempDir()
			tt.change(i)
			if err := errors.Join(i.save(dir), os.WriteFile(filepath.Join(dir, filePages), []byte("123"), 0o600)); err != nil {
				t.Fatal(err)
			}
			_, err := Load(dir)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("loaded nothing")
	}
}

// A process that is killed while it is made is gone, and whoever makes it is told:
// the kernel says nothing of the end of its first thread while others are traced.
func TestKilledWhileMade(t *testing.T) {
	p, line := started(t, talker)
	say(t, line, "a")
	dir := t.TempDir()
	if err := Freeze(t.Context(), p.PID(), dir, known); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	i := load(t, dir)
	if len(i.Threads) < 2 {
		t.Fatalf("%d threads", len(i.Threads))
	}
	for done := range 4 {
		_, theirs := pair(t)
		places := Places{Files: map[string]*os.File{"line": theirs, "stderr": os.Stderr}}
		cmd, release, err := i.stub(places)
		if err != nil {
			t.Fatal(err)
		}
		_, err = child.StartWith(cmd, func(pid int) error {
			tr, err := newTracer(pid)
			if err != nil {
				return err
			}
			defer tr.close()
			b := &builder{tracer: tr, image: i, places: places, tids: []int{pid}}
			for _, part := range []func() error{b.begin, b.write, b.run}[:done] {
				if err := part(); err != nil {
					return err
				}
			}
			defer b.kill()
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				return err
			}
			for {
				// Stops from before the signal may still be told.
				if _, err := b.await(pid); err != nil {
					return fmt.Errorf("killed: %w", err)
				}
			}
		})
		release()
		if err == nil || !strings.Contains(err.Error(), "killed: ") || !strings.Contains(err.Error(), "ended") {
			t.Errorf("after %d parts: %v", done, err)
		}
		if err := unix.Kill(cmd.Process.Pid, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("after %d parts it is still there: %v", done, err)
		}
	}
}
