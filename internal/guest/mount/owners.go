package mount

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
)

// mapOwners puts in the place of a mount one of the same whose files have other
// owners: the kernel maps them in a mount alone that nobody has seen yet.
func mapOwners(one *agent.Mount) error {
	owners, err := idmap.Parse(lines(one.Uids), lines(one.Gids))
	if err != nil {
		return fmt.Errorf("mount on %s: %w", one.Target, err)
	}
	ns, err := owners.Namespace()
	if err != nil {
		return fmt.Errorf("mount on %s: %w", one.Target, err)
	}
	defer ns.Close()
	fd, err := unix.OpenTree(unix.AT_FDCWD, one.Target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "copy mount", Path: one.Target, Err: err}
	}
	tree := os.NewFile(uintptr(fd), one.Target)
	defer tree.Close()
	if err := idmap.Set(tree, ns, false); err != nil {
		return err
	}
	return replace(tree)
}

// replace puts a copy of a mount in its place. Were it put on top, something would
// be left when it is unmounted.
func replace(tree *os.File) error {
	if err := Unmount(tree.Name()); err != nil {
		return err
	}
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, tree.Name(), unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "mount", Path: tree.Name(), Err: err}
	}
	return nil
}

// lines are mappings in the form that package idmap takes.
func lines(mappings []*agent.IDMapping) string {
	var all []string
	for _, m := range mappings {
		all = append(all, fmt.Sprintf("%d:%d:%d", m.ContainerId, m.GuestId, m.Size))
	}
	return strings.Join(all, ",")
}
