package layer

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/erofs"
)

const (
	whiteout     = ".wh."
	whiteoutMeta = ".wh..wh."
	opaque       = ".wh..wh..opq"
)

// tree is the image as it is after the layers so far. Every entry remembers
// the layer that named it last, since whiteouts hide lower layers only,
// wherever in the layer they stand.
type tree struct {
	root  *erofs.Inode
	layer int
	use   *usage
}

func newDir() *erofs.Inode {
	return &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: map[string]erofs.Entry{}}
}

func (t *tree) put(dir *erofs.Inode, name string, n *erofs.Inode) {
	dir.Entries[name] = erofs.Entry{Inode: n, Layer: t.layer}
}

// add puts a file at a path. A directory over a directory keeps the entries.
func (t *tree) add(parts []string, n *erofs.Inode) error {
	if len(parts) == 0 {
		return t.setRoot(n)
	}
	dir, name, err := t.parent(parts, n.Mtime)
	if err != nil {
		return err
	}
	if old, ok := dir.Entries[name]; ok && old.Inode.IsDir() && n.IsDir() {
		n.Entries = old.Inode.Entries
	}
	t.put(dir, name, n)
	return nil
}

func (t *tree) setRoot(n *erofs.Inode) error {
	if !n.IsDir() {
		return errors.New("the root of the image is not a directory")
	}
	n.Entries = t.root.Entries
	t.root = n
	return nil
}

func (t *tree) parent(parts []string, mtime int64) (*erofs.Inode, string, error) {
	last := len(parts) - 1
	dir, err := t.dir(parts[:last], true, mtime)
	return dir, parts[last], err
}

// link adds a hard link to a file of this or of a lower layer.
func (t *tree) link(parts []string, target string) error {
	to, err := splitPath(target)
	if err != nil {
		return err
	}
	n, err := t.lookup(to)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	if len(parts) == 0 {
		return errors.New("the root of the image is a hard link")
	}
	dir, name, err := t.parent(parts, n.Mtime)
	if err != nil {
		return err
	}
	t.put(dir, name, n)
	return nil
}

func (t *tree) lookup(parts []string) (*erofs.Inode, error) {
	if len(parts) == 0 {
		return nil, unix.EISDIR
	}
	last := len(parts) - 1
	dir, err := t.dir(parts[:last], false, 0)
	if err != nil {
		return nil, err
	}
	if dir == nil {
		return nil, unix.ENOENT
	}
	e, ok := dir.Entries[parts[last]]
	switch {
	case !ok:
		return nil, unix.ENOENT
	case e.Inode.IsDir():
		return nil, unix.EISDIR
	}
	return e.Inode, nil
}

// hide handles a name that says what a layer takes away; done tells that it
// was one.
func (t *tree) hide(parts []string) (done bool, err error) {
	for i, part := range parts {
		switch {
		case !strings.HasPrefix(part, whiteout):
			continue
		case part == opaque && i == len(parts)-1:
			return true, t.hideAll(parts[:i])
		case strings.HasPrefix(part, whiteoutMeta):
			return true, nil // AUFS's own files, no part of the image
		case i < len(parts)-1:
			return true, fmt.Errorf("directory %q has a name that is reserved for whiteouts", part)
		}
		return true, t.hideOne(parts[:i], strings.TrimPrefix(part, whiteout))
	}
	return false, nil
}

func (t *tree) hideOne(parent []string, name string) error {
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("whiteout of %q names no file", name)
	}
	dir, err := t.dir(parent, false, 0)
	if dir == nil || err != nil {
		return err
	}
	t.purge(dir, name)
	return nil
}

func (t *tree) hideAll(parent []string) error {
	dir, err := t.dir(parent, false, 0)
	if dir == nil || err != nil {
		return err
	}
	for name := range dir.Entries {
		t.purge(dir, name)
	}
	return nil
}

// purge removes what lower layers put at a name and below it, and keeps what
// this layer put there. A directory of a lower layer stays as far as this
// layer has put something into it.
func (t *tree) purge(dir *erofs.Inode, name string) {
	e, ok := dir.Entries[name]
	if !ok {
		return
	}
	if e.Inode.IsDir() {
		for child := range e.Inode.Entries {
			t.purge(e.Inode, child)
		}
	}
	if e.Layer < t.layer && len(e.Inode.Entries) == 0 {
		delete(dir.Entries, name)
	}
}
