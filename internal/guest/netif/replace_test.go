package netif

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	agent "dougong.dev/dougong/api/agent/v1"
)

const otherMAC = "02:00:00:00:00:02"

// whole is a plan with one of everything.
func whole() Plan {
	return Plan{
		Interfaces: []*agent.Interface{{
			Name: "eth0", Mac: mac, Mtu: 1400, Addresses: []string{"10.1.0.2/24", "fd01::2/64"}, Ipv6: true, BareAddresses: true,
		}},
		Routes: []*agent.Route{
			{Destination: "10.1.0.0/24", Device: "eth0", Source: "10.1.0.2", LinkScope: true},
			{Destination: "0.0.0.0/0", Gateway: "10.1.0.1", Device: "eth0"},
			{Destination: "10.3.0.0/16", Gateway: "169.254.1.1", Device: "eth0", Onlink: true, Metric: 50, Mtu: 1300},
			{Destination: "fd03::/64", Device: "eth0", Metric: 77},
		},
		Neighbours: []*agent.Neighbour{
			{Address: "10.1.0.9", Mac: "02:00:00:00:00:09", Device: "eth0"},
			{Address: "fd01::9", Mac: "02:00:00:00:00:09", Device: "eth0"},
		},
	}
}

// shown is what ip says of the network that this thread is in.
func shown(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", "ip -o addr; ip route; ip -6 route; ip neigh show nud permanent; ip -o link").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	// Whether the other end of the cable is plugged in is told late.
	return strings.ReplaceAll(string(out), "linkdown ", "")
}

func expect(t *testing.T, what string, present, absent []string) {
	t.Helper()
	got := shown(t)
	for _, want := range present {
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q is not in\n%s", what, want, got)
		}
	}
	for _, no := range absent {
		if strings.Contains(got, no) {
			t.Errorf("%s: %q is in\n%s", what, no, got)
		}
	}
}

func TestReplace(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		plug(t)
		if err := Apply(t.Context(), whole()); err != nil {
			t.Error(err)
			return
		}
		always := []string{"10.1.0.2/24", "default via 10.1.0.1", "10.1.0.0/24 dev eth0 scope link src 10.1.0.2"}
		first := []string{
			"fd01::2/64", "10.3.0.0/16 via 169.254.1.1 dev eth0 metric 50 onlink mtu 1300", "fd03::/64 dev eth0 metric 77",
			"10.1.0.9 dev eth0 lladdr 02:00:00:00:00:09 PERMANENT", "fd01::9 dev eth0 lladdr 02:00:00:00:00:09 PERMANENT",
		}
		expect(t, "at first", append(slices.Clone(always), first...), []string{"fd01::/64", "tentative"})

		is := whole()
		is.Interfaces[0].Addresses = []string{"10.1.0.2/24", "10.1.0.3/32"}
		is.Routes, is.Neighbours = is.Routes[:2], nil
		for range 2 {
			if err := Replace(t.Context(), whole(), is); err != nil {
				t.Error(err)
			}
		}
		expect(t, "replaced", append(slices.Clone(always), "10.1.0.3/32"), first)

		// What somebody in the guest has added is theirs.
		own, _ := netlink.ParseAddr("192.0.2.1/32")
		link, err := netlink.LinkByName("eth0")
		if err == nil {
			err = netlink.AddrAdd(link, own)
		}
		if err != nil {
			t.Error(err)
		}
		if err := Replace(t.Context(), is, whole()); err != nil {
			t.Error(err)
		}
		expect(t, "back again", append(append(slices.Clone(always), first...), "192.0.2.1/32"), []string{"10.1.0.3/32"})
	})
}

// TestReplaceWithoutTheDevice: it has been unplugged, and took its own along.
func TestReplaceWithoutTheDevice(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		plug(t)
		if err := Apply(t.Context(), whole()); err != nil {
			t.Error(err)
			return
		}
		link, err := netlink.LinkByName("eth0")
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil {
			t.Error(err)
		}
		if err := Replace(t.Context(), whole(), Plan{}); err != nil {
			t.Error(err)
		}
	})
}

// TestReplaceOfADeviceThatStays takes it down, whoever does not let go of it.
func TestReplaceOfADeviceThatStays(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		plug(t)
		if err := Apply(t.Context(), whole()); err != nil {
			t.Error(err)
		}
		if err := Replace(t.Context(), whole(), Plan{}); err != nil {
			t.Error(err)
		}
		expect(t, "taken back", []string{"eth0@peer0: <BROADCAST,MULTICAST,M-DOWN>"}, []string{"default via"})
	})
}

// TestNamesThatChange: each of two devices has the other one's name.
func TestNamesThatChange(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		for name, address := range map[string]string{"eth0": otherMAC, "eth1": mac} {
			out, err := exec.Command("ip", "link", "add", name, "address", address, "type", "veth", "peer", "name", "p"+name).CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
		p := Plan{Interfaces: []*agent.Interface{
			{Name: "eth0", Mac: mac, Addresses: []string{"10.1.0.2/24"}}, {Name: "eth1", Mac: otherMAC, Addresses: []string{"10.2.0.2/24"}},
		}}
		for range 2 {
			if err := Apply(t.Context(), p); err != nil {
				t.Error(err)
			}
		}
		for name, want := range map[string]string{"eth0": mac, "eth1": otherMAC} {
			link, err := netlink.LinkByName(name)
			if err != nil || link.Attrs().HardwareAddr.String() != want {
				t.Errorf("%s: %+v, %v", name, link, err)
			}
		}
		expect(t, "both", []string{"eth0    inet 10.1.0.2/24", "eth1    inet 10.2.0.2/24"}, nil)
	})
}

func TestBadNeighbours(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		plug(t)
		for name, n := range map[string]*agent.Neighbour{
			"address": {Address: "x", Mac: mac, Device: "some0"}, "hardware address": {Address: "10.0.0.1", Mac: "x", Device: "some0"},
			"device": {Address: "10.0.0.1", Mac: mac, Device: "eth9"},
		} {
			if err := Apply(t.Context(), Plan{Neighbours: []*agent.Neighbour{n}}); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
}
