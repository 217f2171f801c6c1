package flags

import (
	"net/netip"
	"strconv"
	"strings"
)

// Port publishes one port of the container on the host.
type Port struct {
	// HostIP is the address listened on; the zero Addr is all of them.
	HostIP netip.Addr
	// HostPort is 0 when the caller is to pick one.
	HostPort uint16
	// GuestPort is the port in the container.
	GuestPort uint16
	// Proto is tcp or udp.
	Proto string
}

// ParsePort reads [IP:][HOST:]CONTAINER[/PROTO], in which HOST and CONTAINER
// are ports or ranges of equal length, and an IPv6 address stands in brackets.
func ParsePort(s string) ([]Port, error) {
	rest, proto, has := strings.Cut(s, "/")
	if !has {
		proto = "tcp"
	}
	proto = strings.ToLower(proto)
	if proto != "tcp" && proto != "udp" {
		return nil, invalid("port %q: protocol %q is neither tcp nor udp", s, proto)
	}
	ip, rest, err := cutHostIP(s, rest)
	if err != nil {
		return nil, err
	}
	host, guest, both := strings.Cut(rest, ":")
	if !both {
		host, guest = "", rest
	}
	to, err := parseRange(s, guest)
	if err != nil {
		return nil, err
	}
	from := portRange{}
	if host != "" {
		if from, err = parseRange(s, host); err != nil {
			return nil, err
		}
		if from.len() != to.len() {
			return nil, invalid("port %q: %d ports of the host cannot go to %d of the container", s, from.len(), to.len())
		}
	}
	return expand(ip, from, to, proto), nil
}

// cutHostIP takes "[v6]:" or "v4:" off the front, when two more parts follow.
func cutHostIP(s, rest string) (netip.Addr, string, error) {
	var text string
	switch {
	case strings.HasPrefix(rest, "["):
		inner, after, ok := strings.Cut(rest[1:], "]:")
		if !ok {
			return netip.Addr{}, "", invalid("port %q: the address is not closed by ]:", s)
		}
		text, rest = inner, after
	case strings.Count(rest, ":") == 2:
		text, rest, _ = strings.Cut(rest, ":")
		if text == "" {
			return netip.Addr{}, "", invalid("port %q: the address is empty", s)
		}
	default:
		return netip.Addr{}, rest, nil
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return ip, "", invalid("port %q: %q is not an IP address", s, text)
	}
	return ip, rest, nil
}

type portRange struct{ first, last uint16 }

func (r portRange) len() int { return int(r.last) - int(r.first) + 1 }

func parseRange(s, text string) (portRange, error) {
	low, high, ranged := strings.Cut(text, "-")
	if !ranged {
		high = low
	}
	first, err1 := parsePortNumber(low)
	last, err2 := parsePortNumber(high)
	if err1 != nil || err2 != nil || last < first {
		return portRange{}, invalid("port %q: %q is not a port between 1 and 65535, nor a range of them", s, text)
	}
	return portRange{first, last}, nil
}

func parsePortNumber(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err == nil && (n == 0 || text[0] == '+') {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

func expand(ip netip.Addr, from, to portRange, proto string) []Port {
	out := make([]Port, 0, to.len())
	for i := range to.len() {
		p := Port{HostIP: ip, GuestPort: to.first + uint16(i), Proto: proto}
		if from.first != 0 {
			p.HostPort = from.first + uint16(i)
		}
		out = append(out, p)
	}
	return out
}
