package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// temp is a file that is being written. Its writer holds a lock on it, so that
// a file without a lock is known to be stale, whatever process ids mean by now.
type temp struct {
	*os.File
	done bool
}

func (s *Store) temp() (*temp, error) {
	for {
		f, err := os.CreateTemp(s.path("tmp"), fmt.Sprintf("%d-*", os.Getpid()))
		if err != nil {
			return nil, err
		}
		err = flock(f, unix.LOCK_EX)
		// A sweep may have come between creation and lock.
		if err == nil && named(f, f.Name()) {
			return &temp{File: f}, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, errBusy) {
			return nil, err
		}
	}
}

// discard removes the file unless it was placed.
func (t *temp) discard() {
	if !t.done {
		_ = os.Remove(t.Name())
	}
	_ = t.Close()
}

// place makes the file durable, read-only, and gives it its final name.
func (t *temp) place(path string, perm os.FileMode) error {
	if err := t.Chmod(perm); err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.Rename(t.Name(), path); err != nil {
		return err
	}
	t.done = true
	// Not before the rename: until then the lock keeps sweeps away. From now
	// on it would say that the finished file is in use.
	if err := unix.Flock(int(t.Fd()), unix.LOCK_UN); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// writeFile writes a small file of the store in one step.
func (s *Store) writeFile(name string, content []byte) error {
	t, err := s.temp()
	if err != nil {
		return err
	}
	defer t.discard()
	if _, err := t.Write(content); err != nil {
		return err
	}
	return t.place(s.path(name), 0o600)
}

// sweep removes temporary files and lock files that nobody holds.
func (s *Store) sweep() {
	for _, dir := range []string{"tmp", "locks"} {
		list, err := os.ReadDir(s.path(dir))
		if err != nil {
			continue
		}
		for _, e := range list {
			sweepFile(s.path(dir, e.Name()))
		}
	}
}

func sweepFile(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	if flock(f, unix.LOCK_EX) == nil && named(f, path) {
		_ = os.Remove(path)
	}
}
