package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// input is a FIFO for reading that is opened when it is first read from, that
// is, when its process runs. Clients tell the end of their input by CloseIO as
// soon as all of it was taken, and some do so in vain before the process runs.
//
// It is held open for writing too: it stays when a client detaches, until
// EndInput.
type input struct {
	path string

	mu     sync.Mutex
	in     *os.File
	holder *os.File
	ended  bool
	closed bool
}

// Read opens the FIFO if need be.
func (i *input) Read(p []byte) (int, error) {
	in, err := i.open()
	if err != nil {
		return 0, err
	}
	return in.Read(p)
}

func (i *input) open() (io.Reader, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil, os.ErrClosed
	}
	if i.in != nil {
		return i.in, nil
	}
	// Neither waits for its other end: the first by its flag, the second
	// because of the first.
	in, err := os.OpenFile(i.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open standard input: %w", err)
	}
	holder, err := os.OpenFile(i.path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open standard input: %w", err), in.Close())
	}
	i.in, i.holder = in, holder
	if i.ended {
		_ = holder.Close()
	}
	return in, nil
}

// EndInput lets the reader see the end once it has what is in the FIFO.
func (i *input) EndInput() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	if i.holder != nil {
		_ = i.holder.Close()
	}
}

// Close ends a Read that waits.
func (i *input) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	if i.in == nil {
		return nil
	}
	_ = i.holder.Close()
	return i.in.Close()
}
