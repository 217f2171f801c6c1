package network

import (
	"slices"
	"strings"

	agentapi "dougong.dev/dougong/api/agent/v1"
)

// Plan is what a guest is to have of a namespace.
type Plan struct {
	// Links are the interfaces that the guest gets, in the order in which they
	// came into the namespace.
	Links []Link
	// Guest describes them, in the same order, as the guest is to see them. The
	// device's address, Interface.mac, is left to who plugs the device in.
	Guest *agentapi.SetNetworkRequest
}

// NewPlan decides what the guest gets. It is a pure function.
func NewPlan(s Snapshot) Plan {
	p := Plan{Guest: &agentapi.SetNetworkRequest{}}
	for _, l := range s.Links {
		if l.wanted() {
			p.Links = append(p.Links, l)
		}
	}
	slices.SortFunc(p.Links, func(a, b Link) int { return a.Index - b.Index })
	names := make(map[int]string)
	for _, l := range p.Links {
		names[l.Index] = l.Name
		p.Guest.Interfaces = append(p.Guest.Interfaces, guestInterface(l, s.Addresses))
	}
	p.Guest.Routes = guestRoutes(s.Routes, names)
	for _, n := range s.Neighbours {
		if device := names[n.Link]; device != "" {
			p.Guest.Neighbours = append(p.Guest.Neighbours, &agentapi.Neighbour{Address: n.Address.String(), Mac: n.MAC, Device: device})
		}
	}
	slices.SortFunc(p.Guest.Neighbours, func(a, b *agentapi.Neighbour) int {
		return strings.Compare(a.Device+" "+a.Address, b.Device+" "+b.Address)
	})
	return p
}

// wanted says whether the guest gets an interface: one that carries Ethernet
// frames, is in use, and is no part of another one.
func (l Link) wanted() bool {
	switch {
	case !l.Ethernet || l.Loopback || !l.Up || l.Master != 0 || l.MAC == "":
		return false
	case l.Kind == "bridge" || l.Kind == "bond" || l.Kind == "ifb":
		return false
	}
	return !isTap(l)
}

func guestInterface(l Link, addresses []Address) *agentapi.Interface {
	i := &agentapi.Interface{Name: l.Name, AssignMac: l.MAC, Mtu: uint32(l.MTU), Ipv6: l.IPv6, BareAddresses: true}
	for _, a := range addresses {
		// The guest learns from the same routers. It would make IPv6's link-local
		// addresses itself too, but only when it comes to see the carrier.
		learned := a.Prefix.Addr().Is6() && a.Dynamic
		if a.Link == l.Index && !learned {
			i.Addresses = append(i.Addresses, a.Prefix.String())
		}
	}
	return i
}

// selfMade says that the guest comes to a route by itself.
func (r Route) selfMade() bool {
	a := r.Destination.Addr()
	return r.Learned || a.Is6() && (a.IsLinkLocalUnicast() || a.IsMulticast())
}

// guestRoutes puts those by a gateway behind those by which it is reached.
func guestRoutes(routes []Route, names map[int]string) []*agentapi.Route {
	var direct, indirect []*agentapi.Route
	for _, r := range routes {
		device := names[r.Link]
		if device == "" || r.selfMade() {
			continue
		}
		g := &agentapi.Route{
			Destination: r.Destination.String(), Device: device, LinkScope: r.LinkScope, Onlink: r.OnLink,
			Metric: uint32(r.Metric), Mtu: uint32(r.MTU),
		}
		if r.Source.IsValid() {
			g.Source = r.Source.String()
		}
		if !r.Gateway.IsValid() {
			direct = append(direct, g)
			continue
		}
		g.Gateway = r.Gateway.String()
		indirect = append(indirect, g)
	}
	return append(direct, indirect...)
}
