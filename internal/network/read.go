package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Snapshot looks at what is in the namespace.
func (n *Namespace) Snapshot() (Snapshot, error) {
	var s Snapshot
	err := n.handle(func(h *netlink.Handle) error {
		for _, read := range []func(*netlink.Handle, *Snapshot) error{readLinks, readAddresses, readRoutes, readNeighbours} {
			if err := read(h, &s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Snapshot{}, fmt.Errorf("look at the network namespace: %w", err)
	}
	return s, nil
}

func readLinks(h *netlink.Handle, s *Snapshot) error {
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		s.Links = append(s.Links, Link{
			Index: a.Index, Name: a.Name, Kind: l.Type(), MAC: a.HardwareAddr.String(), MTU: a.MTU,
			Ethernet: a.EncapType == "ether", Loopback: a.Flags&net.FlagLoopback != 0, Up: a.Flags&net.FlagUp != 0,
			Master: a.MasterIndex, IPv6: hasIPv6(a.Name),
		})
	}
	return nil
}

// hasIPv6 asks the namespace of this thread.
func hasIPv6(name string) bool {
	value, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6"))
	return err == nil && strings.TrimSpace(string(value)) == "0"
}

func readAddresses(h *netlink.Handle, s *Snapshot) error {
	addresses, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		s.Addresses = append(s.Addresses, Address{
			Link: a.LinkIndex, Prefix: prefixOf(a.IPNet), Dynamic: a.Flags&unix.IFA_F_PERMANENT == 0,
		})
	}
	return nil
}

func readRoutes(h *netlink.Handle, s *Snapshot) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.RouteList(nil, family)
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if r.Type != unix.RTN_UNICAST || r.LinkIndex == 0 {
				continue
			}
			destination := prefixOf(r.Dst)
			if r.Dst == nil {
				destination = anywhere(family)
			}
			s.Routes = append(s.Routes, Route{
				Link: r.LinkIndex, Destination: destination, Gateway: addressOf(r.Gw), Source: addressOf(r.Src),
				Metric: r.Priority, MTU: r.MTU, LinkScope: r.Scope == netlink.SCOPE_LINK, OnLink: r.Flags&unix.RTNH_F_ONLINK != 0,
				Learned: r.Protocol == unix.RTPROT_RA,
			})
		}
	}
	return nil
}

func readNeighbours(h *netlink.Handle, s *Snapshot) error {
	neighbours, err := h.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	for _, n := range neighbours {
		if n.State&unix.NUD_PERMANENT == 0 || n.IP == nil || len(n.HardwareAddr) == 0 || n.IP.IsMulticast() {
			continue
		}
		s.Neighbours = append(s.Neighbours, Neighbour{Link: n.LinkIndex, Address: addressOf(n.IP), MAC: n.HardwareAddr.String()})
	}
	return nil
}

func anywhere(family int) netip.Prefix {
	if family == netlink.FAMILY_V6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// prefixOf is unset for nil.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addressOf(n.IP), bits)
}

func addressOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
