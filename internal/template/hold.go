package template

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Names in a store that are no templates: locks, and directories that a
// process holds while it works in them. Both are held by a lock of the kernel
// on the file itself, which goes with its process however that ends. So what
// nobody has locked is left over and can go at once.
const (
	lockPrefix = ".lock-"
	heldPrefix = ".held-"
)

// errStale says that a file was removed before it was locked.
var errStale = errors.New("removed by another process")

// held is a directory that is this process's own until it is removed.
type held struct {
	path string
	lock *os.File
}

// holdNew makes a directory.
func (s *Store) holdNew() (*held, error) {
	for {
		path, err := os.MkdirTemp(s.dir, heldPrefix)
		if err != nil {
			return nil, fmt.Errorf("make directory for template: %w", err)
		}
		lock, err := lockFile(path, os.O_RDONLY, unix.LOCK_EX)
		if err == nil {
			return &held{path: path, lock: lock}, nil
		}
		// A sweep that comes between the two takes it for left over.
		if !errors.Is(err, errStale) && !errors.Is(err, os.ErrNotExist) {
			_ = os.RemoveAll(path)
			return nil, fmt.Errorf("hold directory for template: %w", err)
		}
	}
}

func (h *held) remove() {
	_ = os.RemoveAll(h.path)
	_ = h.lock.Close()
}

// lockKey keeps others from making the same template.
func (s *Store) lockKey(ctx context.Context, key string) (unlock func(), err error) {
	type result struct {
		lock *os.File
		err  error
	}
	locked := make(chan result, 1)
	go func() {
		lock, err := lockPath(ctx, filepath.Join(s.dir, lockPrefix+key))
		locked <- result{lock, err}
	}()
	select {
	case r := <-locked:
		if r.err != nil {
			return nil, fmt.Errorf("lock template: %w", r.err)
		}
		return func() { _ = r.lock.Close() }, nil
	case <-ctx.Done():
		// The lock is given back as soon as it comes.
		go func() {
			if r := <-locked; r.err == nil {
				_ = r.lock.Close()
			}
		}()
		return nil, fmt.Errorf("wait for another process to make the template: %w", context.Cause(ctx))
	}
}

// lockPath locks a file that is made when missing, and anew when a sweep has
// removed it meanwhile. Once ctx has ended no file is made any more: nobody
// would remove it.
func lockPath(ctx context.Context, path string) (*os.File, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		lock, err := lockFile(path, os.O_CREATE|os.O_RDWR, unix.LOCK_EX)
		if !errors.Is(err, errStale) {
			return lock, err
		}
	}
}

// lockFile opens and locks a file; errStale when it is no longer at its path.
func lockFile(path string, flags, how int) (*os.File, error) {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		_ = f.Close()
		return nil, err
	}
	mine, err := f.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = os.Stat(path); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
	}
	_ = f.Close()
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = errStale
	}
	return nil, err
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// sweep removes what no process holds any more.
func (s *Store) sweep() {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name()] = true
	}
	for _, e := range entries {
		key, isLock := strings.CutPrefix(e.Name(), lockPrefix)
		left := isLock && !there[key]
		if !left && !strings.HasPrefix(e.Name(), heldPrefix) {
			continue
		}
		path := filepath.Join(s.dir, e.Name())
		lock, err := lockFile(path, os.O_RDONLY, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(path)
		_ = lock.Close()
	}
}
