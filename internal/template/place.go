package template

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// KeepInMemory has templates kept in dir, which must be in a file system of
// memory, as long as all of them together take at most limit bytes there, and
// no more than half of what is free. Others stay on disk, and so do all where
// dir cannot be used: that is logged, and no error. The directory is made with
// the first template.
func (s *Store) KeepInMemory(dir string, limit int64) {
	if limit <= 0 {
		return
	}
	s.memory, s.limit = &Store{dir: dir}, limit
	if s.inMemory() != nil {
		s.memory.sweep()
	}
	sweepOrphans(filepath.Dir(dir))
}

// linkStore leads from a directory in memory to the store on disk that it
// belongs to.
const linkStore = ".store"

// sweepOrphans removes directories in memory whose store on disk is gone:
// memory is not given back when somebody removes an installation by hand.
func sweepOrphans(parent string) {
	links, err := filepath.Glob(filepath.Join(parent, "*", linkStore))
	if err != nil {
		return
	}
	for _, link := range links {
		dir := filepath.Dir(link)
		if _, err := os.Stat(link); !errors.Is(err, os.ErrNotExist) || checkMemoryDir(dir) != nil {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			slog.Warn("remove templates of an installation that is gone", "directory", dir, "error", err)
		}
	}
}

// inMemory is the store in memory, nil when there is none yet.
func (s *Store) inMemory() *Store {
	if s.memory == nil {
		return nil
	}
	if _, err := os.Lstat(s.memory.dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := checkMemoryDir(s.memory.dir); err != nil {
		slog.Warn("templates are kept on disk only", "error", err)
		return nil
	}
	return s.memory
}

// checkMemoryDir wants a directory that is this user's alone, though anybody
// may write to the directory around its parent.
func checkMemoryDir(dir string) error {
	for _, path := range []string{filepath.Dir(dir), dir} {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("look at %s: %w", path, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
			return fmt.Errorf("%s is not a directory that only user %d can write to", path, os.Geteuid())
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is not in a file system of memory (tmpfs)", dir)
	}
	return nil
}

// makeMemoryDir makes the directory and the one around it. Where nobody could
// keep anything in it, neither is left.
func (s *Store) makeMemoryDir() *Store {
	parent := filepath.Dir(s.memory.dir)
	_ = os.Mkdir(parent, 0o700)
	_ = os.Mkdir(s.memory.dir, 0o700)
	if usable := s.inMemory(); usable != nil {
		// Without it nobody could tell when the directory may go.
		if err := os.Symlink(s.dir, filepath.Join(usable.dir, linkStore)); err == nil || errors.Is(err, os.ErrExist) {
			return usable
		}
	}
	_, _ = os.Remove(s.memory.dir), os.Remove(parent)
	return nil
}

// place is where a machine with this memory is kept, perhaps with its VMM.
func (s *Store) place(memory *os.File, warm bool) *Store {
	if s.memory == nil {
		return s
	}
	place := s.makeMemoryDir()
	if place == nil {
		return s
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Fstat(int(memory.Fd()), &st) != nil || unix.Statfs(place.dir, &fs) != nil {
		return s
	}
	want, have := st.Blocks*512, int64(0)
	if warm {
		want += warmRoom
	}
	for _, t := range place.all() {
		have += t.MemoryUsed + t.WarmUsed
	}
	if have+want > s.limit || want > int64(fs.Bavail)*fs.Bsize/2 {
		return s
	}
	return place
}

// all are the templates of this directory, in no order.
func (s *Store) all() []*Template {
	list, err := s.listInto(map[string]time.Time{})
	if err != nil {
		return nil
	}
	return list
}
