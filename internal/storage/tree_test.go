package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/mounttest"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

func newTree(t *testing.T) *Tree {
	t.Helper()
	mounttest.Need(t)
	tree, err := NewTree(filepath.Join(t.TempDir(), "shared"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

// source is a directory with a file, and a mount with a file below it.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "outside")
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", sub, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(sub, unix.MNT_DETACH) })
	write(t, filepath.Join(sub, "file"), "mounted")
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func content(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(data)
}

// mountsBelow lists the mount points at or below dir.
func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		if point := strings.Fields(line)[4]; point == dir || strings.HasPrefix(point, dir+"/") {
			found = append(found, point)
		}
	}
	return found
}

func bind(name, source string, readOnly, recursive bool) Entry {
	return Entry{Name: name, Mount: Mount{Type: "bind", Source: source}, ReadOnly: readOnly, Recursive: recursive}
}

func TestDirectories(t *testing.T) {
	tests := []struct {
		name                string
		readOnly, recursive bool
		readOnlyBelow       bool
		// What the sub mount shows, and the errors of writing.
		below            string
		outside, mounted error
	}{
		{"rw", false, false, false, "", nil, fs.ErrNotExist},
		{"recursive rw", false, true, false, "mounted", nil, nil},
		{"ro", true, false, false, "", unix.EROFS, fs.ErrNotExist},
		{"recursive, the top ro", true, true, false, "mounted", unix.EROFS, nil},
		{"recursive ro", true, true, true, "mounted", unix.EROFS, unix.EROFS},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree, dir := newTree(t), source(t)
			e := bind("c1/bind-0", dir, tt.readOnly, tt.recursive)
			e.ReadOnlyBelow = tt.readOnlyBelow
			if err := tree.Add(e); err != nil {
				t.Fatal(err)
			}
			shared := filepath.Join(tree.Dir(), "c1", "bind-0")
			if got := content(filepath.Join(shared, "file")); got != "outside" {
				t.Errorf("file is %q", got)
			}
			if got := content(filepath.Join(shared, "sub", "file")); got != tt.below && !strings.HasPrefix(got, "error") {
				t.Errorf("file below the mount is %q, want %q", got, tt.below)
			}
			if err := overwrite(filepath.Join(shared, "file")); !errors.Is(err, tt.outside) {
				t.Errorf("writing gives %v, want %v", err, tt.outside)
			}
			if err := overwrite(filepath.Join(shared, "sub", "file")); !errors.Is(err, tt.mounted) {
				t.Errorf("writing below the mount gives %v, want %v", err, tt.mounted)
			}
			// The source itself keeps its rights, whatever the share has.
			if err := errors.Join(overwrite(filepath.Join(dir, "file")), overwrite(filepath.Join(dir, "sub", "file"))); err != nil {
				t.Errorf("the source has become read-only: %v", err)
			}
		})
	}
}

// overwrite writes to a file that must exist.
func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("O")
	return err
}

func TestFiles(t *testing.T) {
	tree := newTree(t)
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "one")
	for _, e := range []Entry{bind("c1/bind-0", file, false, false), bind("c1/bind-1", file, true, true)} {
		if err := tree.Add(e); err != nil {
			t.Fatal(err)
		}
		if got := content(filepath.Join(tree.Dir(), e.Name)); got != "one" {
			t.Errorf("%s is %q", e.Name, got)
		}
	}
	if err := overwrite(filepath.Join(tree.Dir(), "c1/bind-1")); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to a read-only file gives %v", err)
	}
	if err := overwrite(filepath.Join(tree.Dir(), "c1/bind-0")); err != nil || content(file) != "One" {
		t.Errorf("writing gives %v, the source is %q", err, content(file))
	}
}

func TestOverlay(t *testing.T) {
	tree := newTree(t)
	base := t.TempDir()
	// Overlays of overlays are refused by some kernels.
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(base, unix.MNT_DETACH) })
	dirs := map[string]string{}
	for _, d := range []string{"lower", "upper", "work"} {
		dirs[d] = filepath.Join(base, d)
		if err := os.Mkdir(dirs[d], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dirs["lower"], "file"), "lower")
	e := Entry{Name: "c1/rootfs-0", Mount: Mount{Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + dirs["lower"], "upperdir=" + dirs["upper"], "workdir=" + dirs["work"],
	}}}
	if err := tree.Add(e); err != nil {
		t.Fatal(err)
	}
	shared := filepath.Join(tree.Dir(), e.Name, "file")
	if err := overwrite(shared); err != nil || content(shared) != "Oower" || content(filepath.Join(dirs["lower"], "file")) != "lower" {
		t.Errorf("writing gives %v; file is %q", err, content(shared))
	}
}

func TestAddErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, "")
	tests := map[string]struct {
		entry Entry
		is    error
		want  string
	}{
		"missing source":   {bind("c1/bind-0", filepath.Join(dir, "none"), false, true), fs.ErrNotExist, "bind source path does not exist: " + dir + "/none"},
		"device":           {bind("c1/bind-0", "/dev/null", false, true), errdefs.ErrInvalidArgument, "it is a device"},
		"below a file":     {bind("c1/bind-0", filepath.Join(file, "below"), false, true), unix.ENOTDIR, "bind mount of " + file},
		"bad overlay":      {Entry{Name: "c1/rootfs-0", Mount: Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/none"}}}, nil, "mount overlay (lowerdir=/none)"},
		"no such type":     {Entry{Name: "c1/rootfs-0", Mount: Mount{Type: "nosuchfs", Source: "x"}}, unix.ENODEV, "mount nosuchfs"},
		"read-only no fs":  {Entry{Name: "c1/rootfs-0", Mount: Mount{Type: "nosuchfs", Source: "x"}, ReadOnly: true}, unix.ENODEV, "mount nosuchfs"},
		"missing and file": {bind("c1/bind-0", filepath.Join(dir, "none"), true, false), fs.ErrNotExist, "does not exist"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tree := newTree(t)
			err := tree.Add(tt.entry)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q and %v", err, tt.want, tt.is)
			}
			if left := mountsBelow(t, tree.Dir()); len(left) != 1 {
				t.Errorf("mounts are %v, want the tree's own alone", left)
			}
			if _, err := os.Lstat(filepath.Join(tree.Dir(), tt.entry.Name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the mount point is left: %v", err)
			}
		})
	}
}

func TestRemove(t *testing.T) {
	tree, dir := newTree(t), source(t)
	e := bind("c1/bind-0", dir, true, true)
	if err := tree.Add(e); err != nil {
		t.Fatal(err)
	}
	// One that is in use goes all the same.
	f, err := os.Open(filepath.Join(tree.Dir(), e.Name, "sub", "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := tree.Remove(e); err != nil {
		t.Fatal(err)
	}
	if left := mountsBelow(t, tree.Dir()); len(left) != 1 {
		t.Errorf("mounts are %v, want the tree's own alone", left)
	}
	if content(filepath.Join(dir, "file")) != "outside" {
		t.Error("the source is damaged")
	}
	if err := tree.Remove(e); err != nil {
		t.Errorf("what is not there is taken away: %v", err)
	}
	if err := tree.Add(e); err != nil {
		t.Errorf("the name cannot be used again: %v", err)
	}
}

// With its last entry the directory of a container goes.
func TestRemoveTakesTheDirectory(t *testing.T) {
	tree, dir := newTree(t), source(t)
	entries := []Entry{bind("c1/a", dir, false, false), bind("c1/b", dir, false, false)}
	for _, e := range entries {
		if err := tree.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	for i, e := range entries {
		if err := tree.Remove(e); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(tree.Dir(), "c1")); errors.Is(err, fs.ErrNotExist) != (i == 1) {
			t.Errorf("after entry %d: %v", i, err)
		}
	}
}

func TestMountPoints(t *testing.T) {
	tree, dir := newTree(t), source(t)
	entries := []Entry{bind("c1/rw", dir, false, true), bind("c1/ro", dir, true, true), bind("c1/rro", dir, true, true), bind("c1/flat", dir, true, false)}
	entries[2].ReadOnlyBelow = true
	for _, e := range entries {
		if err := tree.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	got, err := tree.MountPoints(entries)
	if want := []string{GuestShare + "/c1/ro/sub"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("a path is %q", got)
	}
}

func TestNothingIsAddedAfterClose(t *testing.T) {
	tree, dir := newTree(t), source(t)
	e := bind("c1/a", dir, false, false)
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tree.Add(e); !errdefs.IsUnavailable(err) {
		t.Errorf("Add after Close gives %v", err)
	}
	if err := tree.Remove(e); err != nil {
		t.Errorf("Remove after Close gives %v", err)
	}
	if _, err := os.Lstat(tree.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is back: %v", err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	tree, dir := newTree(t), source(t)
	file := filepath.Join(dir, "file")
	for i, e := range []Entry{bind("c1/a", dir, false, true), bind("c1/b", dir, true, true), bind("c1/f", file, false, false)} {
		if err := tree.Add(e); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
	if left := mountsBelow(t, tree.Dir()); len(left) != 0 {
		t.Errorf("%v are still mounted", left)
	}
	if _, err := os.Lstat(tree.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
	// What matters most: sources are unmounted, never emptied.
	if content(file) != "outside" || content(filepath.Join(dir, "sub", "file")) != "mounted" {
		t.Error("closing the share has damaged its source")
	}
}

// TestCloseKeepsSources has a tree whose unmount goes wrong: its entries are
// mounted still when their mount points are to be removed.
func TestCloseKeepsSources(t *testing.T) {
	tree, dir := newTree(t), source(t)
	e := bind("c1/a", dir, false, true)
	if err := tree.Add(e); err != nil {
		t.Fatal(err)
	}
	if err := tree.removeMountPoints(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("removing a mounted entry gives %v, want %v", err, unix.EBUSY)
	}
	if content(filepath.Join(dir, "file")) != "outside" || content(filepath.Join(dir, "sub", "file")) != "mounted" {
		t.Error("the source is damaged")
	}
}

func TestTreeIsShared(t *testing.T) {
	tree := newTree(t)
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); f[4] == tree.Dir() {
			if !strings.HasPrefix(f[6], "shared:") {
				t.Errorf("later mounts do not reach the daemon: %s", line)
			}
			return
		}
	}
	t.Errorf("%s is no mount", tree.Dir())
}

func TestNewTreeErrors(t *testing.T) {
	mounttest.Need(t)
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	if _, err := NewTree(file); err == nil {
		t.Error("a file becomes a tree")
	}
}
