package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/idmap"
)

// Tree is the directory that a sandbox shares with its guest. Every host
// directory in it is a mount, seen only in the sandbox process's own mount
// namespace, so that the kernel removes it when the sandbox is gone.
type Tree struct {
	dir string

	mu     sync.Mutex
	closed bool
	// present are the names of the entries that are there.
	present map[string]bool
	// owners are the user namespaces by which the kernel is told of mappings.
	owners map[idmap.Map]*os.File
}

// NewTree makes dir the root of a tree. Later mounts below it propagate to
// the file sharing daemon, which lives in a mount namespace below ours.
func NewTree(dir string) (*Tree, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of the share: %w", err)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("bind %s to itself: %w", dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		return nil, fmt.Errorf("make %s a shared mount: %w", dir, err)
	}
	return &Tree{dir: dir, present: make(map[string]bool)}, nil
}

// Dir is the path of the tree on the host.
func (t *Tree) Dir() string { return t.dir }

// Close unmounts everything in the tree and removes it. It may be called
// more than once.
func (t *Tree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.dropOwners()
	// Detaching a mount takes those below it along.
	err := unix.Unmount(t.dir, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unmount %s: %w", t.dir, err)
	}
	if err := t.removeMountPoints(); err != nil {
		return fmt.Errorf("remove the share's mount points: %w", err)
	}
	return nil
}

// removeMountPoints removes CONTAINER/ENTRY and what is above. It neither
// looks into an entry nor removes one that is mounted: should an unmount have
// gone wrong, what would be deleted is the user's.
func (t *Tree) removeMountPoints() error {
	containers, err := os.ReadDir(t.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, c := range containers {
		dir := filepath.Join(t.dir, c.Name())
		entries, err := os.ReadDir(dir)
		errs = append(errs, err)
		for _, e := range entries {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
		errs = append(errs, os.Remove(dir))
	}
	return errors.Join(append(errs, os.Remove(t.dir))...)
}

// Add makes an entry visible. One that is visible already stays as it is. After
// Close it is an error.
func (t *Tree) Add(e Entry) error { return t.AddFrom(nil, e) }

// AddFrom makes an entry visible whose source is meant in a view.
func (t *Tree) AddFrom(v *View, e Entry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("share %q: the sandbox has ended: %w", e.Mount.Source, errdefs.ErrUnavailable)
	}
	if t.present[e.Name] {
		return nil
	}
	owners, err := t.namespace(e.Owners)
	if err == nil {
		err = t.mountFrom(v, e, owners)
	}
	if err != nil {
		return err
	}
	t.present[e.Name] = true
	return nil
}

// mountFrom makes the mount point of an entry and mounts it there. owners is nil
// where none are mapped.
func (t *Tree) mountFrom(v *View, e Entry, owners *os.File) error {
	target := filepath.Join(t.dir, e.Name)
	var isDir bool
	var tree *os.File
	err := v.Do(func() (err error) {
		isDir, err = isDirectory(e.Mount)
		if err == nil && e.Mount.Type == "bind" {
			tree, err = takeTree(e, owners)
		}
		return err
	})
	if err != nil {
		return err
	}
	if tree != nil {
		defer tree.Close()
	}
	if err := makeTarget(target, isDir); err != nil {
		return fmt.Errorf("make mount point of %s: %w", e.Mount.Source, err)
	}
	switch {
	case tree != nil:
		err = putTree(tree, target)
	case owners != nil:
		err = t.mountMapped(target, e, owners)
	default:
		err = mountEntry(target, e)
	}
	if err != nil {
		_ = os.Remove(target)
	}
	return err
}

// Remove takes an entry away again, and with the last one of a container its
// directory. One that is not there, as after Close, is no error.
func (t *Tree) Remove(e Entry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	if !t.present[e.Name] {
		return nil
	}
	target := filepath.Join(t.dir, e.Name)
	if err := removeEntry(target); err != nil {
		return err
	}
	delete(t.present, e.Name)
	// That of the pod stays: the guest remembers it.
	if dir := filepath.Dir(target); dir != t.dir && filepath.Base(dir) != namesDir {
		// Others may be in it yet.
		_ = os.Remove(dir)
	}
	return nil
}

func removeEntry(target string) error {
	if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return os.Remove(target)
}

// MountPoints are the guest's paths of directories in which other file systems
// begin below entries that are read-only themselves but not what is mounted
// below them, each after those above it.
func (t *Tree) MountPoints(entries []Entry) ([]string, error) {
	var roots []string
	for _, e := range entries {
		if e.ReadOnly && e.Recursive && !e.ReadOnlyBelow {
			roots = append(roots, filepath.Join(t.dir, e.Name)+"/")
		}
	}
	if len(roots) == 0 {
		return nil, nil
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list what is mounted below the share: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		path := unescape(fields[4])
		info, err := os.Lstat(path)
		if err == nil && info.IsDir() && slices.ContainsFunc(roots, func(r string) bool { return strings.HasPrefix(path, r) }) {
			found = append(found, GuestShare+strings.TrimPrefix(path, t.dir))
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// unescape undoes what the kernel does to blanks in its tables.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace

// isDirectory reports whether what an entry mounts is a directory.
func isDirectory(m Mount) (bool, error) {
	if m.Type != "bind" {
		return true, nil
	}
	info, err := os.Stat(m.Source)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("bind source path does not exist: %s: %w", m.Source, fs.ErrNotExist)
	case err != nil:
		return false, fmt.Errorf("bind mount of %s: %w", m.Source, err)
	case info.Mode()&fs.ModeDevice != 0:
		return false, fmt.Errorf("bind mount of %s: it is a device, which no share can carry; block devices can be given as such (linux.devices, --device): %w", m.Source, errdefs.ErrInvalidArgument)
	}
	return info.IsDir(), nil
}

// makeTarget makes the mount point: a file for a file, a directory otherwise.
func makeTarget(target string, isDir bool) error {
	if isDir {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// mountEntry mounts what is no bind.
func mountEntry(target string, e Entry) error {
	options := strings.Join(e.Mount.Options, ",")
	if e.Mount.Type == "overlay" && len(options) > maxOptions {
		return mountLong(target, e)
	}
	var flags uintptr
	if e.ReadOnly {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount(e.Mount.Source, target, e.Mount.Type, flags, options); err != nil {
		return fmt.Errorf("mount %s (%s) into the share: %w", e.Mount.Type, options, err)
	}
	return nil
}

// setReadOnly works on the whole subtree of mounts, which the old
// MS_REMOUNT does not.
func setReadOnly(fd int, recursive bool) error {
	flags := uint(unix.AT_NO_AUTOMOUNT | unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(fd, "", flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}
