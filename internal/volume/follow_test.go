package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
	"dougong.dev/dougong/internal/mounttest"
)

var limits = Limits{Bytes: 1 << 20, Entries: 64}

// guest has what it was told, as lines for each path.
type guest struct {
	t       *testing.T
	mu      sync.Mutex
	has     map[string]string
	partial string
	steps   []string
	fail    error
}

func (g *guest) apply(_ context.Context, _ string, changes []*agentapi.VolumeChange) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail != nil {
		return g.fail
	}
	size := 0
	for _, c := range changes {
		size += len(c.Content)
		switch c.Kind {
		case agentapi.VolumeChange_KIND_REMOVED:
			delete(g.has, c.Path)
		case agentapi.VolumeChange_KIND_FILE:
			if c.Continued != (g.partial != "") {
				g.t.Errorf("%s begins in the middle of another, or goes on with nothing", c.Path)
			}
			g.partial += string(c.Content)
			if c.More {
				continue
			}
			g.has[c.Path] = fmt.Sprintf("%o %s", c.Mode, g.partial)
			g.partial = ""
		case agentapi.VolumeChange_KIND_SYMLINK:
			g.has[c.Path] = "-> " + string(c.Content)
		default:
			g.has[c.Path] = fmt.Sprintf("%o/", c.Mode)
		}
		step := strings.ToLower(strings.TrimPrefix(c.Kind.String(), "KIND_")) + " " + c.Path
		if c.InPlace {
			step += " in place"
		}
		g.steps = append(g.steps, step)
	}
	if size > 2<<20 {
		g.t.Errorf("%d bytes in one message", size)
	}
	return nil
}

func (g *guest) take() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer func() { g.steps = nil }()
	return g.steps
}

func (g *guest) all() map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.has)
}

// follows starts to follow a directory.
func follows(t *testing.T, dir string) (*guest, *Volume) {
	t.Helper()
	mounttest.Need(t)
	g := &guest{t: t, has: map[string]string{}}
	f, err := NewFollower(limits, g.apply)
	check(t, err)
	t.Cleanup(func() { check(t, f.Close()) })
	v, err := f.Follow("v", dir, idmap.Map{})
	check(t, err)
	if len(g.all()) > 0 {
		t.Error("the guest has something before it is asked for")
	}
	check(t, v.Sync(t.Context()))
	return g, v
}

// eventually waits until the guest has exactly this.
func (g *guest) eventually(want map[string]string) {
	g.t.Helper()
	for begin := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		got := g.all()
		if maps.Equal(got, want) {
			return
		}
		if time.Since(begin) > 20*time.Second {
			g.t.Fatalf("the guest has %.2000s, want %.2000s", fmt.Sprint(got), fmt.Sprint(want))
		}
	}
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	check(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644), os.Chmod(path, 0o644))
}

// publish exchanges what is published, as the kubelet does.
func publish(t *testing.T, dir, stamp string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		write(t, dir, filepath.Join(stamp, name), content)
	}
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	check(t, os.Symlink(stamp, filepath.Join(dir, "..data_tmp")), os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	for name := range files {
		_ = os.Symlink("..data/"+name, filepath.Join(dir, name))
	}
	if old != "" {
		check(t, os.RemoveAll(filepath.Join(dir, old)))
	}
}

func TestPublishedVolume(t *testing.T) {
	dir := t.TempDir()
	check(t, unix.Chmod(dir, 0o2775))
	large := strings.Repeat("large", 150_000)
	publish(t, dir, "..1", map[string]string{"key": "one", "large": large})
	g, _ := follows(t, dir)
	g.eventually(map[string]string{
		".": "2775/", "..1": "2755/", "..1/key": "644 one", "..1/large": "644 " + large,
		"..data": "-> ..1", "key": "-> ..data/key", "large": "-> ..data/large",
	})
	g.take()
	publish(t, dir, "..2", map[string]string{"key": "two", "large": "small"})
	g.eventually(map[string]string{
		".": "2775/", "..2": "2755/", "..2/key": "644 two", "..2/large": "644 small",
		"..data": "-> ..2", "key": "-> ..data/key", "large": "-> ..data/large",
	})
	// The link is turned when all that it leads to is there, and before what it
	// led to goes.
	got := strings.Join(g.take(), ", ")
	if !strings.Contains(got, "file ..2/large, symlink ..data, ") || strings.Index(got, "symlink ..data") > strings.Index(got, "removed ..1") {
		t.Errorf("steps are %s", got)
	}
}

func TestPlainDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", "one")
	write(t, dir, "sub/deep/file", "deep")
	g, _ := follows(t, dir)
	g.take()
	write(t, dir, "file", "written to")
	g.eventually(map[string]string{".": "755/", "file": "644 written to", "sub": "755/", "sub/deep": "755/", "sub/deep/file": "644 deep"})
	if got := strings.Join(g.take(), ", "); got != "file file in place" && !strings.HasSuffix(got, "file file in place, file file in place") {
		t.Errorf("steps are %s", got)
	}
	write(t, dir, "new", "replaces")
	check(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "file")), os.RemoveAll(filepath.Join(dir, "sub/deep")))
	write(t, dir, "sub/another/one", "1")
	g.eventually(map[string]string{".": "755/", "file": "644 replaces", "sub": "755/", "sub/another": "755/", "sub/another/one": "644 1"})
	// Directories that came later are watched, too.
	write(t, dir, "sub/another/one", "2")
	check(t, os.Chmod(filepath.Join(dir, "sub"), 0o700), os.Remove(filepath.Join(dir, "file")), os.Mkdir(filepath.Join(dir, "file"), 0o755))
	g.eventually(map[string]string{".": "755/", "file": "755/", "sub": "700/", "sub/another": "755/", "sub/another/one": "644 2"})
}

// A directory may be written to by those who are not to see anything else of
// the host.
func TestNothingElseIsRead(t *testing.T) {
	mounttest.Need(t)
	outside := t.TempDir()
	write(t, outside, "secret", "secret")
	dir := t.TempDir()
	write(t, dir, "sub/file", "fine")
	g, _ := follows(t, dir)
	check(t,
		os.Symlink(outside, filepath.Join(dir, "dir")), os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "link")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600), os.Rename(filepath.Join(dir, "sub"), filepath.Join(outside, "sub")),
		os.Symlink(outside, filepath.Join(dir, "sub")))
	g.eventually(map[string]string{".": "755/", "dir": "-> " + outside, "link": "-> " + outside + "/secret", "sub": "-> " + outside})
	// The path leads elsewhere now; what is followed is what it was.
	check(t, os.Rename(dir, dir+".old"), os.Symlink(outside, dir))
	write(t, dir+".old", "more", "m")
	g.eventually(map[string]string{".": "755/", "dir": "-> " + outside, "link": "-> " + outside + "/secret", "sub": "-> " + outside, "more": "644 m"})
	check(t, os.Remove(dir), os.Rename(dir+".old", dir))
}

// Between being listed and being read a file may become something else.
func TestOpenFile(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write(t, outside, "secret", "secret")
	write(t, dir, "file", "fine")
	check(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600), os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "out")), os.Symlink("file", filepath.Join(dir, "in")))
	root, err := os.OpenRoot(dir)
	check(t, err)
	defer root.Close()
	for _, name := range []string{"fifo", "out", "in", "none"} {
		if f, err := openFile(root, name); !errors.Is(err, errGone) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	f, err := openFile(root, "file")
	check(t, err)
	check(t, f.Close())
}

func TestWhatIsNotFollowed(t *testing.T) {
	mounttest.Need(t)
	f, err := NewFollower(limits, func(context.Context, string, []*agentapi.VolumeChange) error { return nil })
	check(t, err)
	t.Cleanup(func() { check(t, f.Close()) })
	for name, fill := range map[string]func(dir string){
		"too large": func(dir string) { write(t, dir, "a", strings.Repeat("x", 1<<20)); write(t, dir, "b", "x") },
		"too many": func(dir string) {
			for i := range 70 {
				write(t, dir, fmt.Sprint(i), "")
			}
		},
		"a FIFO": func(dir string) { check(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600)) },
		"a mount": func(dir string) {
			check(t, os.Mkdir(filepath.Join(dir, "m"), 0o755))
			mountAt(t, "tmpfs", filepath.Join(dir, "m"), "")
		},
		"no longer there": func(dir string) { check(t, os.Remove(dir)) },
	} {
		dir := filepath.Join(t.TempDir(), "v")
		check(t, os.Mkdir(dir, 0o755))
		fill(dir)
		if _, err := f.Follow("v", dir, idmap.Map{}); err == nil {
			t.Errorf("%s is followed", name)
		}
		f.mu.Lock()
		if len(f.watched) > 0 {
			t.Errorf("%s: %d watches are left", name, len(f.watched))
		}
		f.mu.Unlock()
	}
}

// What the guest did not take comes with the next change.
func TestFailedChanges(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", "one")
	g, _ := follows(t, dir)
	g.mu.Lock()
	g.fail = errors.New("no space")
	g.mu.Unlock()
	write(t, dir, "file", "two")
	<-time.After(3 * settleTime)
	g.mu.Lock()
	g.fail = nil
	g.mu.Unlock()
	write(t, dir, "other", "o")
	g.eventually(map[string]string{".": "755/", "file": "644 two", "other": "644 o"})
}

// A followed directory does not keep its file system from being unmounted.
func TestUnmount(t *testing.T) {
	mounttest.Need(t)
	dir := t.TempDir()
	check(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"))
	write(t, dir, "file", "one")
	g, _ := follows(t, dir)
	g.eventually(map[string]string{".": "755/", "file": "644 one"})
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	}
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("0123456789abcdef"))
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := len(parseEvents(data)); n > len(data)/unix.SizeofInotifyEvent {
			t.Errorf("%d events in %d bytes", n, len(data))
		}
	})
}
