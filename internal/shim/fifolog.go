package shim

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fifoLog writes to the FIFO by which containerd collects the logs of shims.
// It never waits: what nobody reads is dropped once the FIFO is full.
type fifoLog struct{ fd int }

// OpenLog opens the log of a bundle and makes it standard error, too, which
// is where a crash speaks.
func OpenLog(bundle string) (io.Writer, error) {
	path := filepath.Join(bundle, "log")
	// With a reading end of our own, containerd may come and go.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", path, err)
	}
	if err := unix.Dup3(fd, int(os.Stderr.Fd()), 0); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make %s standard error: %w", path, err)
	}
	return &fifoLog{fd: fd}, nil
}

// Write drops p when it does not fit at once.
func (l *fifoLog) Write(p []byte) (int, error) {
	for {
		n, err := unix.Write(l.fd, p)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return len(p), nil
		default:
			return 0, err
		}
	}
}
