package storage

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/idmap"
)

// View is a mount namespace in which paths of the host are meant; nil stands for
// this process's own. The sandbox process has one of its own, into which what is
// mounted later on the host comes only where mounts are shared, and that is up
// to the host.
type View struct{ namespace *os.File }

// NewView is the view of whoever has handed its mount namespace over, which the
// view then owns; without one it is nil.
func NewView(namespace *os.File) *View {
	if namespace == nil {
		return nil
	}
	return &View{namespace: namespace}
}

// Close gives the namespace up.
func (v *View) Close() error {
	if v == nil {
		return nil
	}
	return v.namespace.Close()
}

// Do runs f where paths are as in the view. What f leaves open stays good.
func (v *View) Do(f func() error) error {
	if v == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() { done <- v.onThread(f) }()
	return <-done
}

// onThread runs f on a thread of its own, which ends with its goroutine: nothing
// else must ever run on one that has been elsewhere.
func (v *View) onThread(f func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread cannot end. While it is held here, it is another.
		defer runtime.UnlockOSThread()
		return v.Do(f)
	}
	err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(v.namespace.Fd()), unix.CLONE_NEWNS))
	if err != nil {
		return fmt.Errorf("enter the caller's mount namespace: %w", err)
	}
	return f()
}

// takeTree copies the mount of an entry, to be put elsewhere. What is read-only
// is so from the first moment: copies of a mount that others have, as the file
// sharing daemon does, do not follow when the one here is changed.
//
// owners, unless nil, is a namespace that maps those of the files.
func takeTree(e Entry, owners *os.File) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if e.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, e.Mount.Source, flags)
	if err != nil {
		return nil, fmt.Errorf("take %s for the share: %w", e.Mount.Source, err)
	}
	tree := os.NewFile(uintptr(fd), e.Mount.Source)
	// What the host mounts below shows here, but what is unmounted here, as when
	// the entry goes, must not go there: a copy is a peer of what it is a copy of.
	slave := &unix.MountAttr{Propagation: unix.MS_SLAVE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, slave); err != nil {
		return nil, errors.Join(fmt.Errorf("part %s from the host's mounts: %w", e.Mount.Source, err), tree.Close())
	}
	if owners != nil {
		if err := idmap.Set(tree, owners, e.OwnersBelow); err != nil {
			return nil, errors.Join(fmt.Errorf("mount for a container: %w", err), tree.Close())
		}
	}
	if e.ReadOnly {
		if err := setReadOnly(fd, e.ReadOnlyBelow); err != nil {
			return nil, errors.Join(fmt.Errorf("make %s read-only for the share: %w", e.Mount.Source, err), tree.Close())
		}
	}
	return tree, nil
}

// putTree mounts what was taken.
func putTree(tree *os.File, target string) error {
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("bind %s into the share: %w", tree.Name(), err)
	}
	return nil
}
