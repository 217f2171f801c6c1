// Package device finds the devices of the guest by the names the host gave
// them, and waits for those that are still being attached.
//
// It reads sysfs and listens to the kernel's events. It must not mount or
// open what it finds.
package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Finder looks for devices in one view of the system.
type Finder struct {
	// Sys is where sysfs is mounted, Dev where the device nodes are.
	Sys, Dev string
	// Events returns a subscription to the arrival of devices.
	Events func() (Events, error)
}

// Events is a subscription. A Read returns when something has changed; what
// it returns is of no matter.
type Events interface {
	Read(p []byte) (int, error)
	SetReadDeadline(t time.Time) error
	Close() error
}

// System is the Finder of the running machine.
func System() *Finder {
	return &Finder{Sys: "/sys", Dev: "/dev", Events: uevents}
}

// Disk returns the node of the virtio disk with the given serial number,
// waiting for it until ctx ends.
func (f *Finder) Disk(ctx context.Context, serial string) (string, error) {
	node, err := f.wait(ctx, func() (string, error) { return f.match("block/*/serial", serial) })
	if err != nil {
		return "", fmt.Errorf("disk with serial %q: %w", serial, err)
	}
	return node, nil
}

// Port returns the node of the virtio serial port with the given name,
// waiting for it until ctx ends.
func (f *Finder) Port(ctx context.Context, name string) (string, error) {
	node, err := f.wait(ctx, func() (string, error) { return f.match("class/virtio-ports/*/name", name) })
	if err != nil {
		return "", fmt.Errorf("virtio port %q: %w", name, err)
	}
	return node, nil
}

// Await calls try, and again whenever something about devices changes, until
// it reports success, fails, or ctx ends.
func (f *Finder) Await(ctx context.Context, try func() (bool, error)) error {
	_, err := f.wait(ctx, func() (string, error) {
		ok, err := try()
		if ok {
			return f.Sys, err
		}
		return "", err
	})
	return err
}

// match finds the device whose attribute has a value, "" when there is none.
func (f *Finder) match(pattern, value string) (string, error) {
	attributes, err := filepath.Glob(filepath.Join(f.Sys, pattern))
	if err != nil {
		return "", err
	}
	for _, a := range attributes {
		// A device that goes at this moment is as good as one that is gone.
		data, err := os.ReadFile(a)
		if err != nil || strings.TrimSpace(string(data)) != value {
			continue
		}
		node := filepath.Join(f.Dev, filepath.Base(filepath.Dir(a)))
		if _, err := os.Stat(node); err == nil {
			return node, nil
		}
	}
	return "", nil
}

// wait looks once, and then again on every event.
func (f *Finder) wait(ctx context.Context, find func() (string, error)) (string, error) {
	if node, err := find(); node != "" || err != nil {
		return node, err
	}
	events, err := f.Events()
	if err != nil {
		return "", err
	}
	defer func() { _ = events.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 8<<10)
	for {
		// The device may have come between the first look and the subscription.
		if node, err := find(); node != "" || err != nil {
			return node, err
		}
		if _, err := events.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return "", err
		}
	}
}

// uevents subscribes to the kernel's events about devices.
func uevents() (Events, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open socket for device events: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("subscribe to device events: %w", err)
	}
	return os.NewFile(uintptr(fd), "uevents"), nil
}
