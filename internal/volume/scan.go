package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Limits bound what is copied of a directory.
type Limits struct {
	// Bytes of all files together, and the number of files and directories.
	Bytes, Entries int64
}

// times are larger limits, for a directory that is followed already.
func (l Limits) times(n int64) Limits { return Limits{Bytes: n * l.Bytes, Entries: n * l.Entries} }

var (
	// errLarge says that a directory is beyond its limits.
	errLarge = errors.New("it has more in it than is followed")
	// errStrange says that there are things of which no copy can be made.
	errStrange = errors.New("it has other things in it than files, directories and links")
)

// node is what a path of a directory is.
type node struct {
	kind     os.FileMode
	mode     uint32
	uid, gid uint32
	mtime    int64
	target   string
	// What tells that the content is what it was, and whether it is a file
	// that was written to or one that has taken another's place.
	dev, ino uint64
	size     int64
	ctime    int64
}

// listing has the paths of a directory, "." for itself.
type listing map[string]node

// scanner looks at a directory. enter is told of each directory, open, before
// it is read.
type scanner struct {
	root    *os.Root
	limits  Limits
	lenient bool
	enter   func(dir *os.File) error
	found   listing
	bytes   int64
	device  uint64
}

// scan lists what is below root. Things other than files, directories and links
// are left out where lenient is set, and an error otherwise.
func scan(root *os.Root, limits Limits, lenient bool, enter func(*os.File) error) (listing, error) {
	s := &scanner{root: root, limits: limits, lenient: lenient, enter: enter, found: listing{}}
	info, err := root.Lstat(".")
	if err != nil {
		return nil, err
	}
	top := nodeOf(info)
	s.device = top.dev
	s.found["."] = top
	if err := s.directory("."); err != nil {
		return nil, err
	}
	return s.found, nil
}

func (s *scanner) directory(name string) error {
	dir, err := s.root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := s.enter(dir); err != nil {
		return err
	}
	for {
		names, err := dir.Readdirnames(64)
		for _, n := range names {
			if err := s.entry(path.Join(name, n)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *scanner) entry(name string) error {
	info, err := s.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	n := nodeOf(info)
	if int64(len(s.found)) >= s.limits.Entries {
		return errLarge
	}
	switch {
	case n.dev != s.device:
		return s.strange(name)
	case n.kind == fs.ModeDir:
		s.found[name] = n
		if err := s.directory(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	case n.kind == fs.ModeSymlink:
		if n.target, err = s.root.Readlink(name); err != nil {
			return ignoreMissing(err)
		}
	case n.kind == 0:
		if s.bytes += n.size; s.bytes > s.limits.Bytes {
			return errLarge
		}
	default:
		return s.strange(name)
	}
	s.found[name] = n
	return nil
}

func (s *scanner) strange(name string) error {
	if s.lenient {
		return nil
	}
	return fmt.Errorf("%s: %w", name, errStrange)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func nodeOf(info fs.FileInfo) node {
	n := node{kind: info.Mode().Type(), mtime: info.ModTime().UnixNano(), size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		n.mode, n.uid, n.gid = st.Mode&0o7777, st.Uid, st.Gid
		n.dev, n.ino, n.ctime = st.Dev, st.Ino, st.Ctim.Nano()
	}
	return n
}

// complete reports whether the link that all of a published volume is seen
// through leads to something. It does not while the kubelet changes it.
func (l listing) complete() bool {
	data, ok := l["..data"]
	if !ok || data.kind != fs.ModeSymlink || strings.Contains(data.target, "/") {
		return true
	}
	_, ok = l[data.target]
	return ok
}

// paths are sorted, so that directories come before what is in them.
func (l listing) paths() []string {
	return slices.SortedFunc(maps.Keys(l), func(a, b string) int {
		switch {
		case a == b:
			return 0
		case a == ".":
			return -1
		case b == ".":
			return 1
		}
		return strings.Compare(a, b)
	})
}
