package layer

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/erofs"
)

const (
	pathMax  = 4096
	maxLinks = 40 // as the kernel follows
)

// splitPath gives the components of a name in a layer. A name may be absolute
// or not, but must not climb above the root.
func splitPath(name string) ([]string, error) {
	if len(name) >= pathMax {
		return nil, fmt.Errorf("path %.60q… has %d bytes, more than Linux's %d", name, len(name), pathMax-1)
	}
	if strings.ContainsRune(name, 0) {
		return nil, fmt.Errorf("path %q has a NUL byte", name)
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == ".." && len(parts) == 0:
			return nil, fmt.Errorf("path %q leaves the root of the image", name)
		case part == "..":
			parts = parts[:len(parts)-1]
		case len(part) > erofs.NameMax:
			return nil, fmt.Errorf("name %.40q… has %d bytes, more than Linux's %d", part, len(part), erofs.NameMax)
		default:
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// walker resolves directories in the tree as the kernel would after a chroot:
// symbolic links are followed, and ".." at the root stays there.
type walker struct {
	tree  *tree
	stack []*erofs.Inode
	links int
	// make tells to create what is missing, with this time.
	make  bool
	mtime int64
}

// dir gives the directory that parts name, or nil when there is none and the
// walker may not make it.
func (t *tree) dir(parts []string, create bool, mtime int64) (*erofs.Inode, error) {
	w := walker{tree: t, stack: []*erofs.Inode{t.root}, make: create, mtime: mtime}
	ok, err := w.walk(parts)
	if err != nil {
		return nil, fmt.Errorf("directory %.200q: %w", strings.Join(parts, "/"), err)
	}
	if !ok {
		return nil, nil //nolint:nilnil // "no such directory" is an answer here
	}
	return w.top(), nil
}

func (w *walker) top() *erofs.Inode { return w.stack[len(w.stack)-1] }

func (w *walker) walk(parts []string) (bool, error) {
	for _, part := range parts {
		ok, err := w.step(part)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (w *walker) step(part string) (bool, error) {
	switch part {
	case "", ".":
		return true, nil
	case "..":
		w.stack = w.stack[:max(1, len(w.stack)-1)]
		return true, nil
	}
	e, found := w.top().Entries[part]
	switch {
	case found && e.Inode.IsDir():
		w.stack = append(w.stack, e.Inode)
		return true, nil
	case found && e.Inode.Mode&unix.S_IFMT == unix.S_IFLNK:
		return w.follow(e.Inode.Target)
	case !w.make:
		return false, nil
	}
	return true, w.mkdir(part)
}

func (w *walker) follow(target string) (bool, error) {
	if w.links++; w.links > maxLinks {
		return false, fmt.Errorf("too many symbolic links on the way: %w", unix.ELOOP)
	}
	if strings.HasPrefix(target, "/") {
		w.stack = w.stack[:1]
	}
	return w.walk(strings.Split(target, "/"))
}

// mkdir makes a directory that the layer implies. A file of that name gives
// way, as it would in a stack of overlays.
func (w *walker) mkdir(name string) error {
	if len(name) > erofs.NameMax {
		return fmt.Errorf("name %.40q… has %d bytes, more than Linux's %d", name, len(name), erofs.NameMax)
	}
	if err := w.tree.use.addEntry(len(name)); err != nil {
		return err
	}
	n := newDir()
	n.Mtime = w.mtime
	w.tree.put(w.top(), name, n)
	w.stack = append(w.stack, n)
	return nil
}
