package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/guest/nonblock"
)

const (
	// portWrite is as much as the kernel takes in one write to a port, in bytes.
	portWrite = 32 << 10
	// portPipe is as much as it takes at once by way of a pipe.
	portPipe = 256 << 10
)

// port is the guest's end of a virtio serial port. Each write hands the host
// at most portWrite bytes, and costs an emulated machine an exit and an
// interrupt. What is spliced from a pipe goes as a whole.
type port struct {
	*nonblock.File

	writing sync.Mutex
	in, out uintptr // the pipe
}

// newPort takes an open port.
func newPort(f *os.File) (*port, error) {
	file, err := nonblock.New(f)
	if err != nil {
		return nil, err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make the pipe to the host: %w", err)
	}
	// A smaller pipe works too.
	_, _ = unix.FcntlInt(uintptr(pipe[1]), unix.F_SETPIPE_SZ, portPipe)
	return &port{File: file, in: uintptr(pipe[1]), out: uintptr(pipe[0])}, nil
}

// Close closes the port, which ends a write that waits, and the pipe.
func (p *port) Close() error {
	err := p.File.Close()
	p.writing.Lock()
	defer p.writing.Unlock()
	return errors.Join(err, unix.Close(int(p.in)), unix.Close(int(p.out)))
}

// Write implements io.Writer.
func (p *port) Write(b []byte) (int, error) { return p.WriteParts(b) }

// WriteParts sends several parts, as one if they fit.
func (p *port) WriteParts(parts ...[]byte) (int, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	total := 0
	for _, b := range parts {
		total += len(b)
	}
	if total <= portWrite {
		return p.File.Write(slices.Concat(parts...))
	}
	for sent := 0; sent < total; {
		n, err := p.fill(parts, sent)
		if err == nil {
			err = p.drain(n)
		}
		if err != nil {
			return sent, fmt.Errorf("send to the host: %w", err)
		}
		sent += n
	}
	return total, nil
}

// fill puts what comes after the first skip bytes into the pipe. It is copied
// there into pages which then go to the host as they are.
func (p *port) fill(parts [][]byte, skip int) (int, error) {
	var vec []unix.Iovec
	for _, b := range parts {
		gone := min(skip, len(b))
		skip -= gone
		if b = b[gone:]; len(b) > 0 {
			vec = append(vec, unix.Iovec{Base: &b[0], Len: uint64(len(b))})
		}
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, p.in, uintptr(unsafe.Pointer(&vec[0])), uintptr(len(vec)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// drain sends the n bytes in the pipe.
func (p *port) drain(n int) error {
	for n > 0 {
		moved, err := p.WaitWrite(func(fd uintptr) (uintptr, unix.Errno) {
			moved, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, p.out, 0, fd, 0, uintptr(n), unix.SPLICE_F_NONBLOCK)
			return moved, errno
		})
		if err != nil {
			return err
		}
		if moved == 0 {
			// The kernel has taken them from the pipe and not sent them.
			return io.ErrShortWrite
		}
		n -= moved
	}
	return nil
}
