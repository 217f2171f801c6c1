// Package netif configures the network of the guest: interfaces matched by
// their MAC addresses, their addresses, and routes.
//
// It speaks netlink and must not know where the plan comes from. Applying a
// plan again changes nothing.
package netif

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
)

// linkTimeout is how long an interface may take to be attached.
const linkTimeout = 10 * time.Second

// Apply brings the loopback interface up, then the interfaces and routes given.
func Apply(ctx context.Context, interfaces []*agent.Interface, routes []*agent.Route) error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	for _, i := range interfaces {
		if err := configure(ctx, i); err != nil {
			return fmt.Errorf("configure interface %s (%s): %w", i.Name, i.Mac, err)
		}
	}
	for _, r := range routes {
		if err := addRoute(r); err != nil {
			return fmt.Errorf("add route to %q via %q on %s: %w", r.Destination, r.Gateway, r.Device, err)
		}
	}
	return nil
}

func configure(ctx context.Context, i *agent.Interface) error {
	link, err := findOf(ctx, i)
	if err != nil {
		return err
	}
	if err := rename(link, i.Name); err != nil {
		return err
	}
	if err := assignMAC(link, i.AssignMac); err != nil {
		return err
	}
	if i.Mtu != 0 {
		if err := netlink.LinkSetMTU(link, int(i.Mtu)); err != nil {
			return fmt.Errorf("set MTU %d: %w", i.Mtu, err)
		}
	}
	if err := disableIPv6(cmp.Or(i.Name, link.Attrs().Name), i.Addresses); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	for _, a := range i.Addresses {
		if err := addAddress(link, a); err != nil {
			return fmt.Errorf("add address %q: %w", a, err)
		}
	}
	return nil
}

// disableIPv6 keeps an interface without an IPv6 address from making one of
// its own, as Docker does: nobody would answer there, and to find that out is
// work for a machine each time its hardware address changes.
func disableIPv6(name string, addresses []string) error {
	hasIPv6 := func(cidr string) bool { return strings.Contains(cidr, ":") }
	if slices.ContainsFunc(addresses, hasIPv6) {
		return nil
	}
	err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6"), []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("disable IPv6: %w", err)
	}
	return nil
}

// findOf returns the interface of a plan, also where the plan was applied
// before and it has the address assigned to it.
func findOf(ctx context.Context, i *agent.Interface) (netlink.Link, error) {
	mac, err := net.ParseMAC(i.Mac)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
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
	if link, err := lookup(mac); link != nil || err != nil {
		return link, err
	}
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

func lookup(mac net.HardwareAddr) (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if l.Attrs().HardwareAddr.String() == mac.String() {
			return l, nil
		}
	}
	return nil, nil
}

func rename(link netlink.Link, name string) error {
	if name == "" || link.Attrs().Name == name {
		return nil
	}
	// The kernel renames only what is down.
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("take down %s: %w", link.Attrs().Name, err)
	}
	if err := netlink.LinkSetName(link, name); err != nil {
		return fmt.Errorf("rename %s: %w", link.Attrs().Name, err)
	}
	return nil
}

func addAddress(link netlink.Link, cidr string) error {
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if addr.IP.To4() == nil {
		// The host has chosen the address and nobody else is on the line, so
		// there is nothing to wait for.
		addr.Flags |= unix.IFA_F_NODAD
	}
	return netlink.AddrReplace(link, addr)
}

func addRoute(r *agent.Route) error {
	route, err := parseRoute(r)
	if err != nil {
		return err
	}
	if r.Device != "" {
		link, err := netlink.LinkByName(r.Device)
		if err != nil {
			return fmt.Errorf("find device: %w", err)
		}
		route.LinkIndex = link.Attrs().Index
	}
	return netlink.RouteReplace(route)
}

func parseRoute(r *agent.Route) (*netlink.Route, error) {
	route := &netlink.Route{}
	var errs []error
	if r.Destination != "" {
		_, dst, err := net.ParseCIDR(r.Destination)
		errs = append(errs, err)
		route.Dst = dst
	}
	for _, ip := range []struct {
		text string
		to   *net.IP
	}{{r.Gateway, &route.Gw}, {r.Source, &route.Src}} {
		if ip.text == "" {
			continue
		}
		if *ip.to = net.ParseIP(ip.text); *ip.to == nil {
			errs = append(errs, fmt.Errorf("%q is no IP address", ip.text))
		}
	}
	if r.LinkScope {
		route.Scope = netlink.SCOPE_LINK
	}
	if r.Destination == "" && r.Gateway == "" {
		errs = append(errs, errors.New("a route needs a destination or a gateway"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return route, nil
}
