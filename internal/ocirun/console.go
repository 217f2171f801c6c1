package ocirun

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// console is a terminal whose master goes to whoever listens on a socket. A
// nil one is none.
type console struct {
	socket     string
	master, tt *os.File
}

// openConsole makes a terminal, or none without a socket.
func openConsole(socket string) (*console, error) {
	if socket == "" {
		return nil, nil
	}
	c := &console{socket: socket}
	if err := c.open(); err != nil {
		c.close()
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	return c, nil
}

func (c *console) open() error {
	var err error
	if c.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	fd := int(c.master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return fmt.Errorf("find the other end: %w", err)
	}
	if c.tt, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	// The terminal in the guest does all that a terminal does to its text.
	if _, err := term.MakeRaw(int(c.tt.Fd())); err != nil {
		return fmt.Errorf("put it into raw mode: %w", err)
	}
	return nil
}

// slave is the process's end.
func (c *console) slave() *os.File {
	if c == nil {
		return nil
	}
	return c.tt
}

// send sends the master away.
func (c *console) send() error {
	if c == nil {
		return nil
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: c.socket})
	if err != nil {
		return fmt.Errorf("send the terminal to --console-socket: %w", err)
	}
	defer conn.Close()
	if _, _, err := conn.WriteMsgUnix([]byte("/dev/ptmx"), unix.UnixRights(int(c.master.Fd())), nil); err != nil {
		return fmt.Errorf("send the terminal to --console-socket %s: %w", c.socket, err)
	}
	return nil
}

func (c *console) close() {
	if c == nil {
		return
	}
	for _, f := range []*os.File{c.master, c.tt} {
		if f != nil {
			_ = f.Close()
		}
	}
}
