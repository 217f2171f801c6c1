package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tapPrefix begins the names of taps; the index of the interface that a tap
// belongs to follows.
const tapPrefix = "dgt"

// tapName is that of the tap beside the interface of an index.
func tapName(index int) string { return tapPrefix + strconv.Itoa(index) }

// MaxQueues is how many queues an interface may have.
const MaxQueues = 16

// isTap tells our taps from interfaces that somebody put into the namespace.
func isTap(l Link) bool {
	number, ok := strings.CutPrefix(l.Name, tapPrefix)
	if !ok || l.Kind != "tuntap" && l.Kind != "tun" {
		return false
	}
	_, err := strconv.Atoi(number)
	return err == nil
}

// makeTap makes a tap in the namespace of this thread, with a file for each
// queue. It ends when the last of them is closed.
func makeTap(name string, queues int) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
			files = nil
		}
	}()
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("tap %s: %w", name, err)
	}
	// The frames of a VMM have a header with what is left to do: checksums, and
	// segments to cut.
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	for range queues {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return files, fmt.Errorf("the host has no /dev/net/tun; load the kernel module tun: %w", errdefs.ErrFailedPrecondition)
		}
		if err != nil {
			return files, fmt.Errorf("open /dev/net/tun: %w", err)
		}
		files = append(files, os.NewFile(uintptr(fd), name))
		request.SetUint16(flags)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			return files, fmt.Errorf("make tap %s: %w", name, err)
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// disableIPv6 keeps the namespace's own stack from talking to the guest by a
// tap. A kernel without IPv6 does not.
func disableIPv6(name string) error {
	err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6"), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// blankName is that of a tap that leads nowhere, in a namespace of its own.
const blankName = tapPrefix + "0"

// Blank makes a tap that leads nowhere, for a machine that is to be saved or
// that waits. It ends when its files are closed.
func Blank(queues int) ([]*os.File, error) {
	var files []*os.File
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			files, err = makeTap(blankName, queues)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a tap for a template: %w", err)
	}
	return files, nil
}

// bring moves the blank tap of which queue is a file into the namespace, under
// another name. Whoever reads and writes its frames notices nothing.
func (n *Namespace) bring(queue *os.File, name string) error {
	from, err := namespaceOf(queue)
	if err != nil {
		return err
	}
	defer from.Close()
	return from.handle(func(h *netlink.Handle) error {
		link, err := h.LinkByName(blankName)
		if err != nil {
			return fmt.Errorf("find the tap that waits: %w", err)
		}
		if err := h.LinkSetName(link, name); err != nil {
			return fmt.Errorf("rename the tap that waits to %s: %w", name, err)
		}
		if err := h.LinkSetNsFd(link, int(n.file.Fd())); err != nil {
			return fmt.Errorf("move tap %s into the network namespace: %w", name, err)
		}
		return nil
	})
}

// namespaceOf is the namespace in which a tap was made, by one of its files.
func namespaceOf(queue *os.File) (*Namespace, error) {
	raw, err := queue.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var errno error
	if err := raw.Control(func(tap uintptr) { fd, errno = unix.IoctlRetInt(int(tap), unix.SIOCGSKNS) }); err != nil {
		return nil, err
	}
	if errno != nil {
		return nil, fmt.Errorf("find the network namespace of a tap: %w", errno)
	}
	unix.CloseOnExec(fd)
	return &Namespace{file: os.NewFile(uintptr(fd), "netns")}, nil
}
