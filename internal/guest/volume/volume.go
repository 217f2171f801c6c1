// Package volume keeps copies of the host's directories in the guest's memory,
// which change as the host says.
//
// Other than in a shared directory, changes are seen at once, and whoever watches
// by inotify is told of them. The copies are in a file system that is never
// swapped out, as there are secrets among them.
package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
)

// staging is where something is made before it is put in its place. Those who
// watch a volume see only that.
const staging = ".staging"

// Store holds the volumes of a guest.
type Store struct {
	dir string

	mu   sync.Mutex
	root *os.Root
}

// NewStore returns a store of volumes below dir, which is made and mounted when
// it is first used.
func NewStore(dir string) *Store { return &Store{dir: dir} }

// Change makes changes in a volume, in their order.
func (s *Store) Change(r *agent.ChangeVolumeRequest) error {
	if err := checkName(r.Name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return fmt.Errorf("make file system of volumes: %w", err)
	}
	for _, c := range r.Changes {
		if !filepath.IsLocal(c.Path) {
			return fmt.Errorf("volume %q: path %q is not in it: %w", r.Name, c.Path, errdefs.ErrInvalidArgument)
		}
		if err := s.change(r.Name, c); err != nil {
			return fmt.Errorf("volume %q: change %s: %w", r.Name, c.Path, err)
		}
	}
	return nil
}

func checkName(name string) error {
	if name == staging || !filepath.IsLocal(name) || strings.Contains(name, "/") || name == "." {
		return fmt.Errorf("volume %q: it is no file name: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Stats tells how full the file system of a volume is.
func (s *Store) Stats(name string) (*agent.VolumeStatsResponse, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Join(s.dir, name), &fs); err != nil {
		return nil, fmt.Errorf("volume %q: %w", name, err)
	}
	size := uint64(fs.Bsize)
	return &agent.VolumeStatsResponse{
		Capacity: fs.Blocks * size, Used: (fs.Blocks - fs.Bfree) * size, Available: fs.Bavail * size,
		Inodes: fs.Files, InodesUsed: fs.Files - fs.Ffree,
	}, nil
}

// Close unmounts the volumes. Those that are in use end with their last user.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return nil
	}
	err := errors.Join(s.root.Close(), unix.Unmount(s.dir, unix.MNT_DETACH))
	s.root = nil
	return err
}

// open must be called with mu held.
func (s *Store) open() (err error) {
	if s.root != nil {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return err
	}
	// Other than a tmpfs, it is never written to swap space, whoever adds some.
	if err := unix.Mount("volumes", s.dir, "ramfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0711"); err != nil {
		return err
	}
	if s.root, err = os.OpenRoot(s.dir); err != nil {
		return errors.Join(err, unix.Unmount(s.dir, unix.MNT_DETACH))
	}
	return s.root.Mkdir(staging, 0o700)
}

func (s *Store) change(volume string, c *agent.VolumeChange) error {
	name := path.Join(volume, c.Path)
	switch c.Kind {
	case agent.VolumeChange_KIND_DIRECTORY:
		return s.directory(name, c)
	case agent.VolumeChange_KIND_FILE:
		return s.file(name, path.Join(staging, "file-"+volume), c)
	case agent.VolumeChange_KIND_SYMLINK:
		return s.link(name, c)
	case agent.VolumeChange_KIND_REMOVED:
		err := s.root.RemoveAll(name)
		if errors.Is(err, syscall.ENOTDIR) {
			return nil
		}
		return err
	}
	return fmt.Errorf("unknown kind %v: %w", c.Kind, errdefs.ErrInvalidArgument)
}

// directory makes a directory, or gives the one that is there other attributes.
// It may be in a file system that is mounted in a volume.
func (s *Store) directory(name string, c *agent.VolumeChange) error {
	err := s.root.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if info, lerr := s.root.Lstat(name); lerr == nil && info.IsDir() && c.Missing {
			return nil
		}
		err = nil
	}
	if err != nil {
		return err
	}
	return s.attributes(name, c)
}

// attributes sets what Rename keeps. The owner comes before the mode, from
// which the kernel takes bits with it.
func (s *Store) attributes(name string, c *agent.VolumeChange) error {
	if err := s.root.Chown(name, int(c.Uid), int(c.Gid)); err != nil {
		return err
	}
	mode := fs.FileMode(c.Mode & 0o777)
	for bit, is := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if c.Mode&bit != 0 {
			mode |= is
		}
	}
	if err := s.root.Chmod(name, mode); err != nil {
		return err
	}
	at := time.Unix(0, c.MtimeUnixNano)
	return s.root.Chtimes(name, at, at)
}

func (s *Store) link(name string, c *agent.VolumeChange) error {
	at := path.Join(staging, "link")
	if err := s.root.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.root.Symlink(string(c.Content), at); err != nil {
		return err
	}
	if err := s.root.Lchown(at, int(c.Uid), int(c.Gid)); err != nil {
		return err
	}
	return s.root.Rename(at, name)
}

// file gathers the content at another place, and puts the file in its place with the last piece.
func (s *Store) file(name, at string, c *agent.VolumeChange) error {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if !c.Continued {
		flags |= os.O_TRUNC
	}
	f, err := s.root.OpenFile(at, flags, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(c.Content)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, s.root.Remove(at))
	}
	if c.More {
		return nil
	}
	if info, err := s.root.Lstat(name); c.InPlace && err == nil && info.Mode().IsRegular() {
		return errors.Join(s.overwrite(name, at), s.root.Remove(at), s.attributes(name, c))
	}
	if err := s.attributes(at, c); err != nil {
		return err
	}
	return s.root.Rename(at, name)
}

// overwrite writes to the file that is there, as others have it open.
func (s *Store) overwrite(name, from string) error {
	in, err := s.root.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := s.root.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
