package stdio

import (
	"context"
	"fmt"
	"os"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// Console is where a runtime sends the master of the terminal it makes.
type Console struct {
	socket *runc.Socket
}

// NewConsole makes a socket for one terminal.
func NewConsole() (*Console, error) {
	socket, err := runc.NewTempConsoleSocket()
	if err != nil {
		return nil, fmt.Errorf("make console socket: %w", err)
	}
	return &Console{socket: socket}, nil
}

// Path is what the runtime is told.
func (c *Console) Path() string { return c.socket.Path() }

// Close removes the socket.
func (c *Console) Close() error { return c.socket.Close() }

// Receive returns the master, waiting until ctx ends.
func (c *Console) Receive(ctx context.Context) (*os.File, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.socket.Close() })
	defer stop()
	master, err := c.socket.ReceiveMaster()
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	defer func() { _ = master.Close() }()
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	// Only a descriptor that does not block has deadlines, and a Close that
	// ends a Read.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	return os.NewFile(uintptr(fd), "terminal"), nil
}
