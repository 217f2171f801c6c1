package netif

import (
	"context"
	"fmt"
	"net"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
)

// linkTimeout is how long an interface may take to be attached.
const linkTimeout = 10 * time.Second

// findOf returns the interface of a plan, also where the plan was applied
// before and it has the address assigned to it.
func findOf(ctx context.Context, i *agent.Interface) (netlink.Link, error) {
	mac, err := net.ParseMAC(i.Mac)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	link, err := lookup(mac)
	if link != nil || err != nil {
		return link, err
	}
	if assigned, err := net.ParseMAC(i.AssignMac); err == nil {
		if link, err := lookup(assigned); link != nil || err != nil {
			return link, err
		}
	}
	return find(ctx, mac)
}

// assignMAC gives the interface an address of its own: clones of a machine
// all start with the same.
func assignMAC(link netlink.Link, address string) error {
	if address == "" {
		return nil
	}
	mac, err := net.ParseMAC(address)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
		return fmt.Errorf("assign address %s: %w", address, err)
	}
	return nil
}

// AssignMACs gives interfaces that are configured as planned the addresses
// that are to be theirs alone.
func AssignMACs(interfaces []*agent.Interface) error {
	for _, i := range interfaces {
		if i.AssignMac == "" {
			continue
		}
		if err := setHardwareAddress(i.Name, i.AssignMac); err != nil {
			return fmt.Errorf("assign address %s to interface %s: %w", i.AssignMac, i.Name, err)
		}
	}
	return nil
}

// setHardwareAddress does by one system call what takes netlink a look at the
// interface before, which is much for an emulated machine.
func setHardwareAddress(name, address string) error {
	mac, err := net.ParseMAC(address)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	request := ifreqHardware{family: unix.ARPHRD_ETHER}
	if len(name) >= len(request.name) || len(mac) > len(request.address) {
		return fmt.Errorf("too long: %w", errdefs.ErrInvalidArgument)
	}
	copy(request.name[:], name)
	copy(request.address[:], mac)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// ifreqHardware is struct ifreq with a hardware address.
type ifreqHardware struct {
	name    [unix.IFNAMSIZ]byte
	family  uint16
	address [22]byte
}

// find returns the interface with a MAC address, waiting for it.
func find(ctx context.Context, mac net.HardwareAddr) (netlink.Link, error) {
	ctx, cancel := context.WithTimeout(ctx, linkTimeout)
	defer cancel()
	updates := make(chan netlink.LinkUpdate, 16)
	if err := netlink.LinkSubscribe(updates, ctx.Done()); err != nil {
		return nil, fmt.Errorf("subscribe to interfaces: %w", err)
	}
	// The subscription ends only when its updates are taken.
	defer func() {
		go func() {
			for range updates {
			}
		}()
	}()
	for {
		// It may have come between the first look and the subscription.
		if link, err := lookup(mac); link != nil || err != nil {
			return link, err
		}
		select {
		case <-updates:
		case <-ctx.Done():
			return nil, fmt.Errorf("no interface has this MAC address: %w", errdefs.ErrNotFound)
		}
	}
}

// lookup finds a device by the address that it came with. Where the kernel does
// not know that any more, it is the one that it has.
func lookup(mac net.HardwareAddr) (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		address := a.PermHWAddr
		if len(address) == 0 {
			address = a.HardwareAddr
		}
		if address.String() == mac.String() {
			return l, nil
		}
	}
	return nil, nil
}
