package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errBusy says that another open file holds a lock.
var errBusy = errors.New("is locked by another process")

// Waiting is by polling, since a blocking flock cannot be cancelled.
const lockPoll = 20 * time.Millisecond

// lock is a flock on a file that exists for the lock alone, or as long as
// somebody holds it. The kernel releases it with the process.
type lock struct{ file *os.File }

// tryLock takes a lock, or gives errBusy. The file may be removed by its last
// holder, so a lock counts only while the file still has its name.
func tryLock(path string, how int) (*lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock(f, how); err != nil {
			f.Close()
			return nil, err
		}
		if named(f, path) {
			return &lock{f}, nil
		}
		f.Close()
	}
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return errBusy
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// named tells whether path still leads to the open file.
func named(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// waitLock takes a lock as soon as it is free.
func waitLock(ctx context.Context, path string, how int) (*lock, error) {
	for {
		l, err := tryLock(path, how)
		if !errors.Is(err, errBusy) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

func (l *lock) release() { _ = l.file.Close() }

// remove releases the lock and takes its file away.
func (l *lock) remove() {
	_ = os.Remove(l.file.Name())
	l.release()
}
