package netif

import (
	"errors"
	"fmt"
	"net"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
)

func addRoute(r *agent.Route) error {
	route, err := resolveRoute(r)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(route)
}

// resolveRoute finds the device of a route.
func resolveRoute(r *agent.Route) (*netlink.Route, error) {
	route, err := parseRoute(r)
	if err != nil {
		return nil, err
	}
	if r.Device != "" {
		link, err := netlink.LinkByName(r.Device)
		if err != nil {
			return nil, fmt.Errorf("find device: %w", err)
		}
		route.LinkIndex = link.Attrs().Index
	}
	return route, nil
}

func parseRoute(r *agent.Route) (*netlink.Route, error) {
	route := &netlink.Route{Priority: int(r.Metric), MTU: int(r.Mtu)}
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
	if r.Onlink {
		route.Flags |= int(netlink.FLAG_ONLINK)
	}
	if r.Destination == "" && r.Gateway == "" {
		errs = append(errs, errors.New("a route needs a destination or a gateway"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return route, nil
}

func addNeighbour(n *agent.Neighbour) error {
	neighbour, err := resolveNeighbour(n)
	if err != nil {
		return err
	}
	return netlink.NeighSet(neighbour)
}

func resolveNeighbour(n *agent.Neighbour) (*netlink.Neigh, error) {
	ip := net.ParseIP(n.Address)
	if ip == nil {
		return nil, fmt.Errorf("%q is no IP address: %w", n.Address, errdefs.ErrInvalidArgument)
	}
	mac, err := net.ParseMAC(n.Mac)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	link, err := netlink.LinkByName(n.Device)
	if err != nil {
		return nil, fmt.Errorf("find device: %w", err)
	}
	return &netlink.Neigh{LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT, IP: ip, HardwareAddr: mac}, nil
}
