package netif

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	agent "dougong.dev/dougong/api/agent/v1"
)

// Replace makes the network as the plan says where it was as another one said.
// What neither of them names is left alone.
func Replace(ctx context.Context, was, is Plan) error {
	old := stale(was, is)
	for _, r := range old.Routes {
		if err := dropRoute(r); err != nil {
			return fmt.Errorf("remove route to %q via %q on %s: %w", r.Destination, r.Gateway, r.Device, err)
		}
	}
	for _, n := range old.Neighbours {
		if err := dropNeighbour(n); err != nil {
			return fmt.Errorf("remove neighbour %s on %s: %w", n.Address, n.Device, err)
		}
	}
	for _, i := range old.Interfaces {
		if err := strip(i); err != nil {
			return fmt.Errorf("take back the network of interface %s (%s): %w", i.Name, i.Mac, err)
		}
	}
	return Apply(ctx, is)
}

// stale is what is in a plan and in another one not any more. An interface with
// addresses stays with the rest of them; one without goes as a whole.
func stale(was, is Plan) Plan {
	var old Plan
	for _, r := range was.Routes {
		if !slices.ContainsFunc(is.Routes, func(o *agent.Route) bool { return proto.Equal(r, o) }) {
			old.Routes = append(old.Routes, r)
		}
	}
	for _, n := range was.Neighbours {
		if !slices.ContainsFunc(is.Neighbours, func(o *agent.Neighbour) bool { return proto.Equal(n, o) }) {
			old.Neighbours = append(old.Neighbours, n)
		}
	}
	for _, i := range was.Interfaces {
		at := slices.IndexFunc(is.Interfaces, func(o *agent.Interface) bool { return o.Mac == i.Mac })
		if at < 0 {
			old.Interfaces = append(old.Interfaces, &agent.Interface{Name: i.Name, Mac: i.Mac, AssignMac: i.AssignMac})
			continue
		}
		gone := slices.DeleteFunc(slices.Clone(i.Addresses), func(a string) bool { return slices.Contains(is.Interfaces[at].Addresses, a) })
		if len(gone) > 0 {
			old.Interfaces = append(old.Interfaces, &agent.Interface{Name: i.Name, Mac: i.Mac, AssignMac: i.AssignMac, Addresses: gone})
		}
	}
	return old
}

// strip takes addresses from an interface, or takes it down. It may be gone.
func strip(i *agent.Interface) error {
	link, err := netlink.LinkByName(i.Name)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(i.Addresses) == 0 {
		return ignoreMissing(netlink.LinkSetDown(link))
	}
	for _, a := range i.Addresses {
		addr, err := parseAddress(a)
		if err != nil {
			return err
		}
		if err := netlink.AddrDel(link, addr); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s: %w", a, err)
		}
	}
	return nil
}

func dropRoute(r *agent.Route) error {
	route, err := resolveRoute(r)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return ignoreMissing(netlink.RouteDel(route))
}

func dropNeighbour(n *agent.Neighbour) error {
	neighbour, err := resolveNeighbour(n)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return ignoreMissing(netlink.NeighDel(neighbour))
}

// missing says that something is gone by itself, as routes are with a device.
func missing(err error) bool {
	var link netlink.LinkNotFoundError
	return errors.As(err, &link) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)
}

func ignoreMissing(err error) error {
	if missing(err) {
		return nil
	}
	return err
}
