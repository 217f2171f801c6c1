package main

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/oci/flags"
)

// forwards reads -p flags, picks host ports where none is given, and finds
// out before any VM is started whether a port is free.
func forwards(specs []string) ([]config.Forward, error) {
	var all []config.Forward
	for _, s := range specs {
		ports, err := flags.ParsePort(s)
		if err != nil {
			return nil, err
		}
		for _, p := range ports {
			f, err := forward(p)
			if err != nil {
				return nil, fmt.Errorf("-p %s: %w", s, err)
			}
			all = append(all, f)
		}
	}
	return all, nil
}

func forward(p flags.Port) (config.Forward, error) {
	ip := p.HostIP
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	if !ip.Is4() {
		return config.Forward{}, fmt.Errorf("listening on the IPv6 address %s is not supported: %w", ip, errdefs.ErrNotImplemented)
	}
	port, err := freePort(p.Proto, netip.AddrPortFrom(ip, p.HostPort))
	if err != nil {
		return config.Forward{}, err
	}
	return config.Forward{Protocol: p.Proto, HostIP: ip.String(), HostPort: port, GuestPort: p.GuestPort}, nil
}

// freePort binds an address and lets go of it again. Port 0 finds one.
func freePort(proto string, addr netip.AddrPort) (uint16, error) {
	var bound net.Addr
	if proto == "udp" {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return 0, fmt.Errorf("port %d/%s of the host cannot be used: %w", addr.Port(), proto, err)
		}
		defer c.Close()
		bound = c.LocalAddr()
	} else {
		l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(addr))
		if err != nil {
			return 0, fmt.Errorf("port %d/%s of the host cannot be used: %w", addr.Port(), proto, err)
		}
		defer l.Close()
		bound = l.Addr()
	}
	parsed, err := netip.ParseAddrPort(bound.String())
	if err != nil {
		return 0, fmt.Errorf("read bound address: %w", err)
	}
	return parsed.Port(), nil
}
