package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
)

// step is one change from a listing to the next, without the content.
type step struct {
	path    string
	node    node
	removed bool
	inPlace bool
}

// steps lead from one listing to another in an order in which nobody who looks
// in between misses anything: what is new, then the links that lead to it, then
// what nothing leads to any more. It is the kubelet's order, too.
func steps(from, to listing) []step {
	var gone, made, links, dirs, removed []step
	for _, p := range to.paths() {
		is, was := to[p], from[p]
		_, had := from[p]
		switch {
		case had && is.kind != was.kind:
			gone = append(gone, step{path: p, removed: true})
		case had && same(is, was):
			continue
		}
		switch {
		case is.kind == fs.ModeSymlink:
			links = append(links, step{path: p, node: is})
		case is.kind == fs.ModeDir && had && is.kind == was.kind:
			// It may be made read-only now, but not before it is filled.
			dirs = append(dirs, step{path: p, node: is})
		default:
			made = append(made, step{path: p, node: is, inPlace: had && is.ino == was.ino && is.kind == was.kind})
		}
	}
	for _, p := range slices.Backward(from.paths()) {
		if _, has := to[p]; !has {
			removed = append(removed, step{path: p, removed: true})
		}
	}
	// Links that were there lead to what is new before others show it.
	slices.SortStableFunc(links, func(a, b step) int { return order(from, b.path) - order(from, a.path) })
	return slices.Concat(gone, made, links, removed, dirs)
}

func order(from listing, p string) int {
	if _, had := from[p]; had {
		return 1
	}
	return 0
}

// same reports whether nothing of a node has changed that a copy has. The time
// of a directory changes with what is in it.
func same(a, b node) bool {
	if a.kind == fs.ModeDir {
		return a.mode == b.mode && a.uid == b.uid && a.gid == b.gid
	}
	return a == b
}

const (
	// chunk is how much of a file goes with one change, in bytes.
	chunk = 256 << 10
	// batch is how much goes at a time: a message has 4 MiB at most.
	batch = 1 << 20
)

// send hands the changes of steps to apply, several at a time, with owners mapped.
// It returns the paths of files that have gone meanwhile, and are left out.
func send(root *os.Root, owners idmap.Map, all []step, apply func([]*agentapi.VolumeChange) error) (missing []string, err error) {
	var changes []*agentapi.VolumeChange
	size := 0
	flush := func() error {
		if len(changes) == 0 {
			return nil
		}
		err := apply(changes)
		changes, size = nil, 0
		return err
	}
	add := func(c *agentapi.VolumeChange) error {
		c.Uid, c.Gid = owners.Owner(c.Uid, c.Gid)
		changes = append(changes, c)
		if size += len(c.Content) + len(c.Path) + 64; size < batch {
			return nil
		}
		return flush()
	}
	for _, s := range all {
		switch err := s.change(root, add); {
		case errors.Is(err, errGone):
			missing = append(missing, s.path)
		case err != nil:
			return nil, err
		}
	}
	return missing, flush()
}

// errGone says that a file is no more, or something else.
var errGone = errors.New("the file is gone")

// change makes the change, or several of a large file.
func (s step) change(root *os.Root, add func(*agentapi.VolumeChange) error) error {
	c := &agentapi.VolumeChange{Path: s.path, Mode: s.node.mode, Uid: s.node.uid, Gid: s.node.gid, MtimeUnixNano: s.node.mtime}
	switch {
	case s.removed:
		c = &agentapi.VolumeChange{Path: s.path, Kind: agentapi.VolumeChange_KIND_REMOVED}
	case s.node.kind == fs.ModeDir:
		c.Kind = agentapi.VolumeChange_KIND_DIRECTORY
	case s.node.kind == fs.ModeSymlink:
		c.Kind, c.Content = agentapi.VolumeChange_KIND_SYMLINK, []byte(s.node.target)
	default:
		c.Kind, c.InPlace = agentapi.VolumeChange_KIND_FILE, s.inPlace
		return s.content(root, c, add)
	}
	return add(c)
}

func (s step) content(root *os.Root, c *agentapi.VolumeChange, add func(*agentapi.VolumeChange) error) error {
	f, err := openFile(root, s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	// No more than was counted.
	from := io.LimitReader(f, s.node.size)
	for left, continued := s.node.size, false; ; continued = true {
		piece := make([]byte, min(left, chunk))
		n, err := io.ReadFull(from, piece)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read %s: %w", path.Base(s.path), err)
		}
		left -= int64(n)
		next := &agentapi.VolumeChange{
			Path: c.Path, Kind: c.Kind, Mode: c.Mode, Uid: c.Uid, Gid: c.Gid, MtimeUnixNano: c.MtimeUnixNano, InPlace: c.InPlace,
			Content: piece[:n], More: left > 0 && n == len(piece) && n > 0, Continued: continued,
		}
		if err := add(next); err != nil || !next.More {
			return err
		}
	}
}

// openFile opens a plain file; errGone is none any more. Before it is
// known to be one it is not opened for anything: devices and FIFOs act upon that.
func openFile(root *os.Root, name string) (*os.File, error) {
	at, err := root.OpenFile(name, unix.O_PATH|syscall.O_NOFOLLOW, 0)
	if err != nil {
		if info, lerr := root.Lstat(name); lerr == nil && info.Mode().IsRegular() {
			return nil, err
		}
		return nil, errGone
	}
	defer at.Close()
	info, err := at.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errGone
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", at.Fd()))
}
