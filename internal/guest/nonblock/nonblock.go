// Package nonblock reads and writes pipes, terminals and ports without letting
// Go's scheduler know, which is what costs an emulated machine most.
//
// The scheduler takes the processor from a thread whose system call takes more
// than 20 µs, and gives it to another one. Where code is emulated every copy of
// a few pages takes longer, so that two threads take turns for each of them.
// Calls that never wait need no such help.
//
// It owns the calls and must not know what is carried.
package nonblock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// File reads and writes a file.
type File struct {
	*os.File
	raw syscall.RawConn
}

// ErrBlocks says that calls on a file would wait in the kernel.
var ErrBlocks = errors.New("the file is not in non-blocking mode")

// New takes a pipe, terminal or port, which must be in non-blocking mode as
// those that package os has opened or made are.
func New(f *os.File) (*File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("use %s: %w", f.Name(), err)
	}
	var flags int
	cerr := raw.Control(func(fd uintptr) { flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0) })
	if err = errors.Join(cerr, err); err == nil && flags&unix.O_NONBLOCK == 0 {
		err = ErrBlocks
	}
	if err != nil {
		return nil, fmt.Errorf("use %s: %w", f.Name(), err)
	}
	return &File{File: f, raw: raw}, nil
}

// Read implements io.Reader.
func (f *File) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.wait(f.raw.Read, func(fd uintptr) (uintptr, syscall.Errno) {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		return n, errno
	})
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Write implements io.Writer.
func (f *File) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n, err := f.WaitWrite(func(fd uintptr) (uintptr, syscall.Errno) {
			n, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p[sent])), uintptr(len(p)-sent))
			return n, errno
		})
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// WaitWrite does a call by which bytes go into the file, which must not wait,
// whenever there is room until it has succeeded or failed otherwise.
func (f *File) WaitWrite(call func(fd uintptr) (uintptr, syscall.Errno)) (int, error) {
	return f.wait(f.raw.Write, call)
}

// wait does a call until it is told something else than to wait.
func (f *File) wait(ready func(func(fd uintptr) bool) error, call func(fd uintptr) (uintptr, syscall.Errno)) (int, error) {
	var n uintptr
	var errno syscall.Errno
	err := ready(func(fd uintptr) bool {
		for {
			n, errno = call(fd)
			if errno != unix.EINTR {
				return errno != unix.EAGAIN
			}
		}
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	if err != nil {
		// What package os has for this is not what it tells others.
		return 0, os.ErrClosed
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
