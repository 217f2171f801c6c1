package record

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// errLocked says that somebody alive holds the lock.
var errLocked = errors.New("locked by a living process")

// Lock is the sign of life of a sandbox. It belongs to the open file, not to
// the process: it can be inherited, and it is free when the last holder has
// closed it or died.
type Lock struct{ file *os.File }

// acquire takes the lock at path; flags may have os.O_CREATE. Who only looks
// must not make one: its directory may just be on its way out.
func acquire(path string, flags int) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC|flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{file: f}, nil
}

// File returns the open file, to hand it on to the sandbox process.
func (l *Lock) File() *os.File { return l.file }

// Close gives this holder's share of the lock up.
func (l *Lock) Close() error { return l.file.Close() }
