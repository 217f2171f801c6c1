package network

import (
	"net/netip"
)

// Snapshot is what is in a namespace at one time.
type Snapshot struct {
	Links      []Link
	Addresses  []Address
	Routes     []Route
	Neighbours []Neighbour
}

// Link is an interface.
type Link struct {
	Index int
	Name  string
	// Kind is the kernel's name of the driver: veth, macvlan, ipvlan, tun, or
	// device for hardware.
	Kind string
	// MAC is the hardware address as text.
	MAC string
	MTU int
	// Ethernet says that frames have Ethernet's header.
	Ethernet, Loopback, Up bool
	// Master is the index of the bridge or bond it is a part of, or 0.
	Master int
	// IPv6 says that the protocol is on.
	IPv6 bool
}

// Address is an address of a link.
type Address struct {
	Link   int
	Prefix netip.Prefix
	// Dynamic says that it was learned from a router or runs out.
	Dynamic bool
}

// Route is a unicast route of the main table by one link.
type Route struct {
	Link        int
	Destination netip.Prefix
	// Gateway and Source may be unset.
	Gateway, Source netip.Addr
	Metric, MTU     int
	LinkScope       bool
	OnLink          bool
	// Learned says that a router announced it.
	Learned bool
}

// Neighbour is a fixed entry of the table of neighbours.
type Neighbour struct {
	Link    int
	Address netip.Addr
	MAC     string
}
