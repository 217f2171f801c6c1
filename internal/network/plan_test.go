package network

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

var update = flag.Bool("update", false, "write the golden files anew")

func veth(index int, name string) Link {
	return Link{Index: index, Name: name, Kind: "veth", MAC: "02:00:00:00:00:0" + string(rune('0'+index)), MTU: 1500, Ethernet: true, Up: true, IPv6: true}
}

var loopback = Link{Index: 1, Name: "lo", Kind: "device", MAC: "00:00:00:00:00:00", MTU: 65536, Ethernet: false, Loopback: true, Up: true}

func address(link int, prefix string) Address {
	return Address{Link: link, Prefix: netip.MustParsePrefix(prefix)}
}

func route(link int, destination, gateway string) Route {
	r := Route{Link: link, Destination: netip.MustParsePrefix(destination), LinkScope: gateway == ""}
	if gateway != "" {
		r.Gateway = netip.MustParseAddr(gateway)
	}
	return r
}

func TestPlanGolden(t *testing.T) {
	for name, s := range map[string]Snapshot{
		"nothing": {Links: []Link{loopback}},
		"bridge": {
			Links:     []Link{loopback, veth(2, "eth0")},
			Addresses: []Address{address(1, "127.0.0.1/8"), address(2, "10.4.0.7/24"), address(2, "fe80::1/64"), address(2, "fd00::7/64")},
			Routes: []Route{
				route(2, "0.0.0.0/0", "10.4.0.1"),
				{Link: 2, Destination: netip.MustParsePrefix("10.4.0.0/24"), Source: netip.MustParseAddr("10.4.0.7"), LinkScope: true},
				{Link: 2, Destination: netip.MustParsePrefix("fd00::/64"), Metric: 256},
				{Link: 2, Destination: netip.MustParsePrefix("fe80::/64"), Metric: 256},
				{Link: 2, Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fd00::1"), Metric: 1024, MTU: 1400},
			},
		},
		// A gateway that no address leads to, and that does not answer.
		"point-to-point": {
			Links:      []Link{loopback, veth(3, "eth0")},
			Addresses:  []Address{address(3, "192.168.5.9/32")},
			Routes:     []Route{route(3, "0.0.0.0/0", "169.254.1.1"), route(3, "169.254.1.1/32", "")},
			Neighbours: []Neighbour{{Link: 3, Address: netip.MustParseAddr("169.254.1.1"), MAC: "ee:ee:ee:ee:ee:ee"}, {Link: 1, Address: netip.MustParseAddr("127.0.0.2"), MAC: "ee:ee:ee:ee:ee:ee"}},
		},
		// What is learned from routers, the guest learns itself.
		"announced": {
			Links:     []Link{loopback, veth(2, "eth0")},
			Addresses: []Address{{Link: 2, Prefix: netip.MustParsePrefix("fd00::abcd/64"), Dynamic: true}, {Link: 2, Prefix: netip.MustParsePrefix("10.0.0.9/24"), Dynamic: true}},
			Routes:    []Route{{Link: 2, Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fe80::1"), Learned: true}},
		},
		"several": {
			Links: []Link{
				veth(5, "net1"), loopback, veth(2, "eth0"),
				{Index: 6, Name: "macvlan0", Kind: "macvlan", MAC: "02:00:00:00:00:06", MTU: 9000, Ethernet: true, Up: true},
				{Index: 7, Name: "tap0", Kind: "tuntap", MAC: "02:00:00:00:00:07", MTU: 1500, Ethernet: true, Up: true},
				{Index: 8, Name: "dgt2", Kind: "tuntap", MAC: "02:00:00:00:00:08", MTU: 1500, Ethernet: true, Up: true},
				{Index: 9, Name: "gretap0", Kind: "gretap", MAC: "00:00:00:00:00:00", MTU: 1462, Ethernet: true},
				{Index: 10, Name: "tun0", Kind: "tuntap", MTU: 1500, Up: true},
				{Index: 11, Name: "br0", Kind: "bridge", MAC: "02:00:00:00:00:0b", MTU: 1500, Ethernet: true, Up: true},
				{Index: 12, Name: "port0", Kind: "veth", MAC: "02:00:00:00:00:0c", MTU: 1500, Ethernet: true, Up: true, Master: 11},
			},
			Addresses: []Address{address(5, "10.1.0.2/16"), address(2, "10.0.0.2/16"), address(11, "10.2.0.2/16")},
			Routes:    []Route{route(5, "10.1.0.0/16", ""), route(2, "0.0.0.0/0", "10.0.0.1"), route(2, "10.0.0.0/16", ""), route(11, "10.2.0.0/16", "")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := NewPlan(s)
			if len(p.Links) != len(p.Guest.Interfaces) {
				t.Errorf("%d links and %d interfaces", len(p.Links), len(p.Guest.Interfaces))
			}
			compareGolden(t, name+".json", p.Guest)
		})
	}
}

func compareGolden(t *testing.T, name string, m proto.Message) {
	t.Helper()
	data, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	// protojson varies its spaces on purpose.
	var got bytes.Buffer
	if err := json.Indent(&got, compact(t, data), "", "  "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s\n(go test -update writes it anew)", path, diff)
	}
}

func compact(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestPlanDoesNotDependOnOrder: the kernel lists as it likes.
func TestPlanDoesNotDependOnOrder(t *testing.T) {
	a := Snapshot{
		Links:      []Link{veth(2, "eth0"), veth(3, "eth1")},
		Neighbours: []Neighbour{{Link: 2, Address: netip.MustParseAddr("10.0.0.1"), MAC: "x"}, {Link: 3, Address: netip.MustParseAddr("10.0.0.1"), MAC: "y"}},
	}
	b := Snapshot{Links: []Link{a.Links[1], a.Links[0]}, Neighbours: []Neighbour{a.Neighbours[1], a.Neighbours[0]}}
	if !proto.Equal(NewPlan(a).Guest, NewPlan(b).Guest) {
		t.Errorf("plans differ: %v, %v", NewPlan(a).Guest, NewPlan(b).Guest)
	}
}
