package template

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// openBoth is a store with a second one in memory.
func openBoth(t *testing.T, limit int64) (s *Store, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	mount := t.TempDir()
	if err := unix.Mount("memory", mount, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	s = open(t)
	dir = filepath.Join(mount, "templates", "of-one")
	s.KeepInMemory(dir, limit)
	return s, dir
}

// TestKeepInMemory has room for two small ones in memory.
func TestKeepInMemory(t *testing.T) {
	s, dir := openBoth(t, 2*page)
	var keys []string
	for i, name := range []string{"a", "b", "c"} {
		made := create(t, s, recipe(Key(name), name))
		if want := i < 2; made.InMemory != want || made.BootTook == 0 {
			t.Errorf("template %s: in memory %v, want %v; boot took %v", name, made.InMemory, want, made.BootTook)
		}
		if _, err := s.Get(made.Key); err != nil {
			t.Error(err)
		}
		keys = append(keys, made.Key)
	}
	if list, err := s.List(); err != nil || len(list) != 3 || list[0].Key != keys[2] {
		t.Errorf("list %v, %v", list, err)
	}
	if len(names(t, s)) != 1 || len(names(t, &Store{dir: dir})) != 2 {
		t.Errorf("on disk %q, in memory %q", names(t, s), names(t, &Store{dir: dir}))
	}
	// A clone takes its memory from where it is.
	held, err := s.Get(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	_, _, take, err := held.Lend()
	if err != nil {
		t.Fatal(err)
	}
	take()
	if err := s.Remove(keys[0]); err != nil {
		t.Error(err)
	}
	if err := s.Clear(); err != nil {
		t.Error(err)
	}
	if left := append(names(t, s), names(t, &Store{dir: dir})...); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestOrphans removes an installation by hand, as people do.
func TestOrphans(t *testing.T) {
	s, dir := openBoth(t, 1<<20)
	create(t, s, recipe(Key("a"), "a"))
	other := open(t)
	beside := filepath.Join(filepath.Dir(dir), "of-another")
	other.KeepInMemory(beside, 1<<20)
	create(t, other, recipe(Key("b"), "b"))
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	other.KeepInMemory(beside, 1<<20)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("what is left of a removed installation stays in memory: %v", err)
	}
	if got, err := other.Get(Key("b")); err != nil || !got.InMemory {
		t.Errorf("that of another one: %+v, %v", got, err)
	}
}

// TestNotInMemory keeps on disk what cannot be in memory.
func TestNotInMemory(t *testing.T) {
	t.Run("not asked for", func(t *testing.T) {
		s, _ := openBoth(t, 0)
		if create(t, s, recipe(Key("a"), "a")).InMemory {
			t.Error("it is in memory")
		}
	})
	t.Run("too large", func(t *testing.T) {
		s, _ := openBoth(t, page-1)
		if create(t, s, recipe(Key("a"), "a")).InMemory {
			t.Error("it is in memory")
		}
	})
	t.Run("a disk", func(t *testing.T) {
		s := open(t)
		dir := t.TempDir()
		s.KeepInMemory(filepath.Join(dir, "a", "b"), 1<<20)
		if create(t, s, recipe(Key("a"), "a")).InMemory != onTmpfs(t) {
			t.Error("a disk was taken for memory")
		}
	})
	t.Run("another one's", func(t *testing.T) {
		s, dir := openBoth(t, 0)
		if err := os.Mkdir(filepath.Dir(dir), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Dir(dir), 0o777); err != nil {
			t.Fatal(err)
		}
		s.KeepInMemory(dir, 1<<20)
		if create(t, s, recipe(Key("a"), "a")).InMemory {
			t.Error("a directory that others can write to was taken")
		}
	})
	t.Run("a link", func(t *testing.T) {
		s, dir := openBoth(t, 0)
		if err := os.Symlink(t.TempDir(), filepath.Dir(dir)); err != nil {
			t.Fatal(err)
		}
		s.KeepInMemory(dir, 1<<20)
		if create(t, s, recipe(Key("a"), "a")).InMemory {
			t.Error("somebody's link was followed")
		}
	})
}

// onTmpfs says whether temporary files are in memory anyway.
func onTmpfs(t *testing.T) bool {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(os.TempDir(), &fs); err != nil {
		t.Fatal(err)
	}
	return fs.Type == unix.TMPFS_MAGIC
}
