// Package socket makes and reaches UNIX sockets in directories whose path may
// be longer than the 107 bytes that a socket address can hold.
//
// It owns that detour and nothing else.
package socket

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Listen listens on the socket name in dir. Closing the listener leaves the
// name in place.
func Listen(dir, name string) (*net.UnixListener, error) {
	var l *net.UnixListener
	err := through(dir, name, func(addr *net.UnixAddr) (err error) {
		l, err = net.ListenUnix("unix", addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(dir, name), err)
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// Dial connects to the socket name in dir.
func Dial(dir, name string) (*net.UnixConn, error) {
	var c *net.UnixConn
	err := through(dir, name, func(addr *net.UnixAddr) (err error) {
		c, err = net.DialUnix("unix", nil, addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", filepath.Join(dir, name), err)
	}
	return c, nil
}

// through calls f with an address that goes by way of a descriptor of dir.
func through(dir, name string, f func(*net.UnixAddr) error) error {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(&net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)})
}
