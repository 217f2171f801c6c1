package storage

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var names Names
	rw, ro := Bind{Source: dir}, Bind{Source: dir, ReadOnly: true}
	first := names.Take(rw)
	if again, other := names.Take(rw), names.Take(ro); again != first || other == first {
		t.Errorf("%s is also %s, and read-only %s", first, again, other)
	}
	if names.Give(first) {
		t.Error("the first of two is the last")
	}
	// What is there now is another.
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if other := names.Take(rw); other == first {
		t.Error("another directory at the same path has the same name")
	}
	if !names.Give(first) || names.Give(first) || names.Give("none") {
		t.Error("the last use is not told from others")
	}
	if next := names.Take(Bind{Source: dir + ".old"}); next == first {
		t.Error("a name is used again")
	}
}

// What is read-only is so in every copy of the mount, as a daemon in a
// namespace below ours has one.
func TestReadOnlyCopies(t *testing.T) {
	tree, dir := newTree(t), source(t)
	elsewhere := t.TempDir()
	if err := bindShared(tree.Dir(), elsewhere); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmountAll(elsewhere) })
	for i, below := range []bool{false, true} {
		e := bind(filepath.Join("c1", []string{"ro", "rro"}[i]), dir, true, true)
		e.ReadOnlyBelow = below
		if err := tree.Add(e); err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(elsewhere, e.Name)
		if err := overwrite(filepath.Join(at, "file")); err == nil {
			t.Errorf("%s: a copy can be written to", e.Name)
		}
		if err := overwrite(filepath.Join(at, "sub/file")); (err == nil) == below {
			t.Errorf("%s: below it writing gives %v", e.Name, err)
		}
		if err := tree.Remove(e); err != nil {
			t.Error(err)
		}
	}
}

// bindShared makes a peer of a tree of mounts at another place.
func bindShared(from, to string) error {
	return unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
}

func unmountAll(dir string) { _ = unix.Unmount(dir, unix.MNT_DETACH) }

// The directory of what several containers have stays when it is empty.
func TestPodDirectoryStays(t *testing.T) {
	tree := newTree(t)
	var names Names
	e := bind(names.Take(Bind{Source: t.TempDir()}), t.TempDir(), false, false)
	for range 2 {
		if err := tree.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	at := filepath.Join(tree.Dir(), e.Name)
	if n := len(mountsBelow(t, at)); n != 1 {
		t.Errorf("an entry that was added twice is mounted %d times", n)
	}
	before, err := os.Stat(filepath.Dir(at))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := tree.Remove(e); err != nil {
			t.Error(err)
		}
	}
	if after, err := os.Stat(filepath.Dir(at)); err != nil || !os.SameFile(before, after) {
		t.Errorf("the directory is gone, or another: %v", err)
	}
}

// Where mounts of the host are shared, those below an entry stay when it goes,
// and those that come later show in it.
func TestSharedMountsOfTheHost(t *testing.T) {
	tree, dir := newTree(t), t.TempDir()
	for _, err := range []error{bindShared(dir, dir), unix.Mount("", dir, "", unix.MS_SHARED, ""), os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.Mkdir(filepath.Join(dir, "later"), 0o755), unix.Mount("tmpfs", filepath.Join(dir, "sub"), "tmpfs", 0, "")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unmountAll(dir) })
	e := bind("c1/bind-0", dir, false, true)
	if err := tree.Add(e); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", filepath.Join(dir, "later"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if shown := mountsBelow(t, filepath.Join(tree.Dir(), "c1/bind-0")); len(shown) != 3 {
		t.Errorf("the entry has mounts %v", shown)
	}
	if err := tree.Remove(e); err != nil {
		t.Error(err)
	}
	if left := mountsBelow(t, dir); len(left) != 3 {
		t.Errorf("of the host's mounts there are %v", left)
	}
}
