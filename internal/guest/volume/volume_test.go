package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/mounttest"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

func newStore(t *testing.T) *Store {
	t.Helper()
	mounttest.Need(t)
	s := NewStore(filepath.Join(t.TempDir(), "volumes"))
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func change(s *Store, changes ...*agent.VolumeChange) error {
	return s.Change(&agent.ChangeVolumeRequest{Name: "v", Changes: changes})
}

func file(path, content string) *agent.VolumeChange {
	return &agent.VolumeChange{Path: path, Kind: agent.VolumeChange_KIND_FILE, Mode: 0o640, Uid: 7, Gid: 8, MtimeUnixNano: 12e9, Content: []byte(content)}
}

func dir(path string, mode uint32) *agent.VolumeChange {
	return &agent.VolumeChange{Path: path, Kind: agent.VolumeChange_KIND_DIRECTORY, Mode: mode}
}

func link(path, target string) *agent.VolumeChange {
	return &agent.VolumeChange{Path: path, Kind: agent.VolumeChange_KIND_SYMLINK, Content: []byte(target)}
}

func removed(path string) *agent.VolumeChange {
	return &agent.VolumeChange{Path: path, Kind: agent.VolumeChange_KIND_REMOVED}
}

func TestChange(t *testing.T) {
	s := newStore(t)
	check(t, change(s, dir(".", 0o2775), dir("..1", 0o755), file("..1/key", "one"), link("..data", "..1"), link("key", "..data/key")))
	v := filepath.Join(s.dir, "v")
	if data, err := os.ReadFile(filepath.Join(v, "key")); string(data) != "one" {
		t.Errorf("the file has %q, %v", data, err)
	}
	var st unix.Stat_t
	check(t, unix.Stat(filepath.Join(v, "..1/key"), &st))
	if st.Mode != unix.S_IFREG|0o640 || st.Uid != 7 || st.Gid != 8 || st.Mtim.Sec != 12 {
		t.Errorf("it is %o of %d:%d since %d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
	}
	check(t, unix.Stat(v, &st))
	if st.Mode != unix.S_IFDIR|0o2775 {
		t.Errorf("the volume is %o", st.Mode)
	}
	var fs unix.Statfs_t
	check(t, unix.Statfs(v, &fs))
	if fs.Type != unix.RAMFS_MAGIC {
		t.Errorf("it is in a file system of kind %x, which may be swapped out", fs.Type)
	}
	// What changes its kind, and what is not there.
	check(t, change(s, removed("..1"), file("..1", "now a file"), removed("..1/key"), removed("none/none")))
	if data, err := os.ReadFile(filepath.Join(v, "..data")); string(data) != "now a file" {
		t.Errorf("the file has %q, %v", data, err)
	}
	if left, err := os.ReadDir(filepath.Join(s.dir, staging)); len(left) > 0 || err != nil {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestFilesInPieces(t *testing.T) {
	s := newStore(t)
	part := func(content string, more, continued bool) *agent.VolumeChange {
		c := file("f", content)
		c.More, c.Continued = more, continued
		return c
	}
	check(t, change(s, dir(".", 0o755)))
	// One that was broken off leaves nothing to the next.
	check(t, change(s, part("broken", true, false)))
	check(t, change(s, part("a", true, false)))
	check(t, s.Change(&agent.ChangeVolumeRequest{Name: "other", Changes: []*agent.VolumeChange{dir(".", 0o755), file("f", "of another")}}))
	check(t, change(s, part("b", true, true), part("c", false, true)))
	if data, err := os.ReadFile(filepath.Join(s.dir, "v/f")); string(data) != "abc" {
		t.Errorf("the file has %q, %v", data, err)
	}
}

// Watchers see what they would see of the change itself.
func TestEvents(t *testing.T) {
	s := newStore(t)
	check(t, change(s, dir(".", 0o755), dir("..1", 0o755), file("..1/key", "one"), link("..data", "..1"), file("plain", "one")))
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	check(t, err)
	defer func() { _ = unix.Close(fd) }()
	_, err = unix.InotifyAddWatch(fd, filepath.Join(s.dir, "v"), unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MODIFY|unix.IN_DELETE|unix.IN_CLOSE_WRITE)
	check(t, err)
	plain := file("plain", "two")
	plain.InPlace = true
	before := inode(t, filepath.Join(s.dir, "v/plain"))
	check(t, change(s, dir("..2", 0o755), file("..2/key", "two"), link("..data", "..2"), plain, file("new", "n"), removed("..1")))
	buffer := make([]byte, 4096)
	n, err := unix.Read(fd, buffer)
	check(t, err)
	got := ""
	for b := buffer[:n]; len(b) >= unix.SizeofInotifyEvent; {
		size := int(b[12])
		got += fmt.Sprintf("%x %s, ", uint32(b[4])|uint32(b[5])<<8, strings.TrimRight(string(b[16:16+size]), "\x00"))
		b = b[16+size:]
	}
	const want = "100 ..2, 80 ..data, 2 plain, 2 plain, 8 plain, 80 new, 200 ..1, "
	if got != want && got != strings.Replace(want, "2 plain, 2 plain", "2 plain", 1) {
		t.Errorf("events are %s, want %s", got, want)
	}
	if inode(t, filepath.Join(s.dir, "v/plain")) != before {
		t.Error("a file that was written to is another one now")
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Stat(path, &st))
	return st.Ino
}

// Directories of a file system that is mounted in a volume stay as they are.
func TestMissingDirectories(t *testing.T) {
	s := newStore(t)
	check(t, change(s, dir(".", 0o755)))
	v := filepath.Join(s.dir, "v")
	check(t, unix.Mount("tmpfs", v, "tmpfs", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(v, unix.MNT_DETACH) })
	missing := dir("a", 0o700)
	missing.Missing = true
	check(t, change(s, missing), os.Chmod(filepath.Join(v, "a"), 0o711), change(s, missing))
	if info, err := os.Stat(filepath.Join(v, "a")); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestRefusals(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"", ".", "..", "a/b", "/a", staging} {
		if err := s.Change(&agent.ChangeVolumeRequest{Name: name}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("volume %q: %v", name, err)
		}
	}
	check(t, change(s, dir(".", 0o755), link("out", "/")))
	for _, c := range []*agent.VolumeChange{file("../x", ""), file("/x", ""), {Path: "x"}, file("out/x", ""), removed("out/etc")} {
		if err := change(s, c); err == nil {
			t.Errorf("%v is no error", c)
		}
	}
}
