package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
)

// containerd's snapshotters say with the options of a mount how owners in it are
// mapped, for containers in a user namespace: uidmap=0:100000:65536.
const uidOption, gidOption = "uidmap=", "gidmap="

// takeOwners takes the mapping of owners out of a mount's options.
func takeOwners(options []string) (rest []string, owners idmap.Map, err error) {
	var uids, gids string
	for _, o := range options {
		if value, ok := strings.CutPrefix(o, uidOption); ok {
			uids = value
		} else if value, ok := strings.CutPrefix(o, gidOption); ok {
			gids = value
		} else {
			rest = append(rest, o)
		}
	}
	owners, err = idmap.Parse(uids, gids)
	return rest, owners, err
}

// OwnerMessages are what the guest is told of a mapping.
func OwnerMessages(m idmap.Map) (uids, gids []*agentapi.IDMapping) {
	users, groups := m.Lines()
	return messages(users), messages(groups)
}

func messages(lines []idmap.Line) []*agentapi.IDMapping {
	var all []*agentapi.IDMapping
	for _, l := range lines {
		all = append(all, &agentapi.IDMapping{ContainerId: l.From, GuestId: l.To, Size: l.Count})
	}
	return all
}

// namespace is that of a mapping, nil of one that maps nothing. It is kept for the
// next entry: pods have one mapping for all of theirs. t.mu must be held.
func (t *Tree) namespace(m idmap.Map) (*os.File, error) {
	if m.IsZero() || t.owners[m] != nil {
		return t.owners[m], nil
	}
	ns, err := m.Namespace()
	if err != nil {
		return nil, err
	}
	if t.owners == nil {
		t.owners = make(map[idmap.Map]*os.File)
	}
	t.owners[m] = ns
	return ns, nil
}

// dropOwners closes the namespaces. t.mu must be held.
func (t *Tree) dropOwners() {
	for _, ns := range t.owners {
		_ = ns.Close()
	}
	t.owners = nil
}

// mountMapped mounts an overlay whose lower directories have other owners than
// they seem to have. An overlay has no such mounts of itself: its lower directories
// must be shown so, in a mount of theirs. The overlay then keeps what it needs.
func (t *Tree) mountMapped(target string, e Entry, owners *os.File) (err error) {
	if e.Mount.Type != "overlay" {
		return fmt.Errorf("mount %s with owners mapped: %w", e.Mount.Type, errdefs.ErrNotImplemented)
	}
	above, err := aboveLowers(e.Mount)
	if err != nil {
		return err
	}
	tree, err := takeTree(Entry{Mount: Mount{Source: above}, ReadOnly: true, Recursive: true, OwnersBelow: true}, owners)
	if err != nil {
		return err
	}
	defer tree.Close()
	// The kernel wants it to be mounted somewhere.
	place, err := os.MkdirTemp(filepath.Dir(t.dir), "lower-")
	if err != nil {
		return fmt.Errorf("make mount point of the lower directories: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(place)) }()
	if err := putTree(tree, place); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Unmount(place, unix.MNT_DETACH)) }()
	e.Mount.Options = lowersIn(tree, e.Mount.Options, above)
	return mountEntry(target, e)
}
