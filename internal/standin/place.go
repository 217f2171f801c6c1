package standin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Mount is a directory or file of the host that the container sees too.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// tree is a mount that was taken and is not put anywhere yet.
type tree struct {
	fd        int
	directory bool
	Mount
}

// settle gives this process a mount namespace like the container's: its root
// directory, its binds, and a proc that shows the stand-ins of the container.
// Those who join it, to copy files or to list processes, must see no more of the
// host than the container does. What cannot be put in place is left out.
func (s Spec) settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separate mounts from the host's: %w", err)
	}
	root, err := take(Mount{Source: s.Root, Target: "/", ReadOnly: s.ReadOnly}, 0)
	if err != nil {
		return err
	}
	var trees []tree
	for _, m := range s.Mounts {
		if t, err := take(m, unix.AT_RECURSIVE); err == nil {
			trees = append(trees, t)
		}
	}
	// Users of their own may have a proc only where they see another one whole,
	// which they do until they have left the old root.
	proc, procErr := newProc()
	if err := enter(root, s.Root); err != nil {
		return fmt.Errorf("change root to %s: %w", s.Root, err)
	}
	// From here on every path is resolved in the container's root directory.
	if procErr == nil {
		proc.put()
	}
	for _, t := range trees {
		t.put()
	}
	if s.ReadOnly {
		protect("/")
	}
	return nil
}

// protect makes a mount read-only. All else that it must not do stays so, where
// the kernel is one that can do that; users of their own may not change it.
func protect(path string) {
	if unix.MountSetattr(unix.AT_FDCWD, path, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}) != nil {
		_ = unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
}

// take copies a mount.
func take(m Mount, flags uint) (tree, error) {
	info, err := os.Stat(m.Source)
	if err != nil {
		return tree{}, fmt.Errorf("find %s: %w", m.Source, err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err != nil {
		return tree{}, fmt.Errorf("copy the mount of %s: %w", m.Source, err)
	}
	return tree{fd: fd, directory: info.IsDir(), Mount: m}, nil
}

// newProc makes a proc of our processes.
func newProc() (tree, error) {
	made, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return tree{}, fmt.Errorf("make a proc: %w", err)
	}
	defer unix.Close(made)
	if err := unix.FsconfigCreate(made); err != nil {
		return tree{}, fmt.Errorf("make a proc: %w", err)
	}
	fd, err := unix.Fsmount(made, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return tree{}, fmt.Errorf("make a proc: %w", err)
	}
	return tree{fd: fd, directory: true, Mount: Mount{Target: "/proc"}}, nil
}

// enter makes a copied mount the root directory, and lets go of the old one.
func enter(root tree, path string) error {
	if err := unix.MoveMount(root.fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	if err := unix.Fchdir(root.fd); err != nil {
		return err
	}
	// The old root comes to lie on the new one, from where it is taken away.
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	return errors.Join(unix.Unmount(".", unix.MNT_DETACH), unix.Chdir("/"), unix.Close(root.fd))
}

// put moves a copied mount to its place, which is made where it is missing, as
// the guest will.
func (t tree) put() {
	defer unix.Close(t.fd)
	if _, err := os.Stat(t.Target); err != nil && !t.makePlace() {
		return
	}
	if err := unix.MoveMount(t.fd, "", unix.AT_FDCWD, t.Target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return
	}
	if t.ReadOnly {
		protect(t.Target)
	}
}

func (t tree) makePlace() bool {
	if t.directory {
		return os.MkdirAll(t.Target, 0o755) == nil
	}
	if err := os.MkdirAll(filepath.Dir(t.Target), 0o755); err != nil {
		return false
	}
	f, err := os.OpenFile(t.Target, os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return false
	}
	return f.Close() == nil
}
