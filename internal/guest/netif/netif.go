// Package netif configures the network of the guest: interfaces matched by
// their MAC addresses, their addresses, routes, and fixed neighbours.
//
// It speaks netlink and must not know where the plan comes from. Applying a
// plan again changes nothing.
package netif

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
)

// Plan is a network as it is to be.
type Plan struct {
	Interfaces []*agent.Interface
	Routes     []*agent.Route
	Neighbours []*agent.Neighbour
}

// Apply brings the loopback interface up, and makes all that is in the plan.
func Apply(ctx context.Context, p Plan) error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	for _, i := range p.Interfaces {
		if err := configure(ctx, i); err != nil {
			return fmt.Errorf("configure interface %s (%s): %w", i.Name, i.Mac, err)
		}
	}
	for _, r := range p.Routes {
		if err := addRoute(r); err != nil {
			return fmt.Errorf("add route to %q via %q on %s: %w", r.Destination, r.Gateway, r.Device, err)
		}
	}
	for _, n := range p.Neighbours {
		if err := addNeighbour(n); err != nil {
			return fmt.Errorf("add neighbour %s (%s) on %s: %w", n.Address, n.Mac, n.Device, err)
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
	if i.Mtu != 0 && link.Attrs().MTU != int(i.Mtu) {
		if err := netlink.LinkSetMTU(link, int(i.Mtu)); err != nil {
			return fmt.Errorf("set MTU %d: %w", i.Mtu, err)
		}
	}
	if err := setIPv6(cmp.Or(i.Name, link.Attrs().Name), i); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	for _, a := range i.Addresses {
		if err := addAddress(link, a, i.BareAddresses); err != nil {
			return fmt.Errorf("add address %q: %w", a, err)
		}
	}
	return nil
}

// setIPv6 keeps an interface that is to have no IPv6 from making an address of
// its own, as Docker does: nobody would answer there, and to find that out is
// work for a machine each time its hardware address changes. Where there is to
// be IPv6, addresses are not asked about on the line before they are used: where
// the plan comes from they were.
func setIPv6(name string, i *agent.Interface) error {
	hasIPv6 := func(cidr string) bool { return strings.Contains(cidr, ":") }
	settings := map[string]string{"disable_ipv6": "1"}
	if i.Ipv6 || slices.ContainsFunc(i.Addresses, hasIPv6) {
		settings = map[string]string{"accept_dad": "0", "disable_ipv6": "0"}
	}
	for _, setting := range []string{"accept_dad", "disable_ipv6"} {
		value, ok := settings[setting]
		if !ok {
			continue
		}
		err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", name, setting), []byte(value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("set %s of IPv6 to %s: %w", setting, value, err)
		}
	}
	return nil
}

func rename(link netlink.Link, name string) error {
	if name == "" || link.Attrs().Name == name {
		return nil
	}
	// The name may be that of a device whose turn is yet to come.
	if other, err := netlink.LinkByName(name); err == nil {
		if err := renameTo(other, fmt.Sprintf("was%d", other.Attrs().Index)); err != nil {
			return err
		}
	}
	return renameTo(link, name)
}

func renameTo(link netlink.Link, name string) error {
	// The kernel renames only what is down.
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("take down %s: %w", link.Attrs().Name, err)
	}
	if err := netlink.LinkSetName(link, name); err != nil {
		return fmt.Errorf("rename %s to %s: %w", link.Attrs().Name, name, err)
	}
	return nil
}

func addAddress(link netlink.Link, cidr string, bare bool) error {
	addr, err := parseAddress(cidr)
	if err != nil {
		return err
	}
	if addr.IP.To4() == nil {
		// The host has chosen the address and nobody else is on the line, so
		// there is nothing to wait for.
		addr.Flags |= unix.IFA_F_NODAD
	}
	// The route of link-local addresses is what the kernel would make with them.
	if bare && (addr.IP.To4() != nil || !addr.IP.IsLinkLocalUnicast()) {
		addr.Flags |= unix.IFA_F_NOPREFIXROUTE
	}
	return netlink.AddrReplace(link, addr)
}

func parseAddress(cidr string) (*netlink.Addr, error) {
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return addr, nil
}
