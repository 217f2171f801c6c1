package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is an open network namespace. It lives at least as long as it is
// open, whatever becomes of its path or of the processes in it.
type Namespace struct{ file *os.File }

// ownNamespace is that of this thread, and hostNamespace that of the host's
// first process.
const (
	ownNamespace  = "/proc/thread-self/ns/net"
	hostNamespace = "/proc/1/ns/net"
)

// Open opens the namespace at a path. That of the host itself is refused: a
// machine that took over the host's interfaces would cut it off.
func Open(path string) (*Namespace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	if kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		_ = f.Close()
		return nil, fmt.Errorf("%s is not a network namespace: %w", path, errdefs.ErrInvalidArgument)
	}
	for _, host := range []string{ownNamespace, hostNamespace} {
		if same(f, host) {
			_ = f.Close()
			return nil, fmt.Errorf("network namespace %s is the host's own, which a virtual machine cannot share; give the container a network of its own: %w", path, errdefs.ErrInvalidArgument)
		}
	}
	return &Namespace{file: f}, nil
}

func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// New makes a namespace with nothing in it.
func New() (*Namespace, error) {
	var f *os.File
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			f, err = os.Open(ownNamespace)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return &Namespace{file: f}, nil
}

// Path leads to the namespace as long as this process has it open.
func (n *Namespace) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
}

// Close gives the handle up. With nobody else in it the namespace ends.
func (n *Namespace) Close() error { return n.file.Close() }

// Do runs f in the namespace. Sockets and taps that f makes belong there.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread of its own, which ends with it: nothing else must
// ever run on one that has been elsewhere.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread cannot end, and stands for the whole process
			// where others look at it. While it is held here, it is another.
			defer runtime.UnlockOSThread()
			done <- onThread(f)
			return
		}
		// Without an unlock the thread ends with the goroutine.
		done <- f()
	}()
	return <-done
}

// handle runs f with a netlink socket in the namespace.
func (n *Namespace) handle(f func(h *netlink.Handle) error) error {
	return n.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink socket: %w", err)
		}
		defer h.Close()
		return f(h)
	})
}

// gone says that what was to be changed is not there.
func gone(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO)
}
