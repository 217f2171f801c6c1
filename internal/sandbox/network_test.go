package sandbox

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/network"
)

func ethernet(index int, name string) network.Link {
	return network.Link{Index: index, Name: name, Kind: "veth", MAC: "0a:00:00:00:00:01", MTU: 1500, Ethernet: true, Up: true}
}

// TestDescribe tells a guest of the interfaces that it has a device for, by the
// address of that device, and of nothing that needs another one.
func TestDescribe(t *testing.T) {
	anywhere := netip.MustParsePrefix("0.0.0.0/0")
	plan := network.NewPlan(network.Snapshot{
		Links: []network.Link{ethernet(2, "eth0"), ethernet(3, "eth1"), ethernet(4, "eth2")},
		Routes: []network.Route{
			{Link: 3, Destination: anywhere, Gateway: netip.MustParseAddr("10.0.0.1")}, {Link: 4, Destination: anywhere, Gateway: netip.MustParseAddr("10.0.0.2")},
		},
		Neighbours: []network.Neighbour{{Link: 2, Address: netip.MustParseAddr("10.0.0.9"), MAC: "m"}, {Link: 4, Address: netip.MustParseAddr("10.0.0.9"), MAC: "m"}},
	})
	n := &networking{attached: []*attachment{
		{tap: &network.Tap{Link: ethernet(3, "eth1")}, number: 0}, {tap: &network.Tap{Link: ethernet(2, "eth0")}, number: 7},
	}}
	want := &agentapi.SetNetworkRequest{
		Interfaces: []*agentapi.Interface{
			{Name: "eth0", Mac: "02:64:6f:75:67:07", AssignMac: "0a:00:00:00:00:01", Mtu: 1500, BareAddresses: true},
			{Name: "eth1", Mac: "02:64:6f:75:67:00", AssignMac: "0a:00:00:00:00:01", Mtu: 1500, BareAddresses: true},
		},
		Routes:     []*agentapi.Route{{Destination: "0.0.0.0/0", Gateway: "10.0.0.1", Device: "eth1"}},
		Neighbours: []*agentapi.Neighbour{{Address: "10.0.0.9", Mac: "m", Device: "eth0"}},
	}
	if diff := cmp.Diff(want, n.describe(plan), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestGuestNetworkWithoutNamespace is that of the options, and stays theirs.
func TestGuestNetworkWithoutNamespace(t *testing.T) {
	o := Options{Interfaces: []*agentapi.Interface{{Name: "eth0"}}, Routes: []*agentapi.Route{{Device: "eth0"}}}
	s := &Sandbox{opts: o}
	got := s.guestNetwork()
	if len(got.Interfaces) != 1 || len(got.Routes) != 1 || s.opts.Network != nil {
		t.Errorf("the guest is told %v", got)
	}
	s.network = &networking{sent: &agentapi.SetNetworkRequest{Interfaces: []*agentapi.Interface{{Name: "eth1"}}}}
	if got := s.guestNetwork(); len(got.Interfaces) != 2 || len(s.opts.Interfaces) != 1 || len(s.network.sent.Interfaces) != 1 {
		t.Errorf("with a namespace the guest is told %v", got)
	}
}

// TestRewireOfAMachineThatEnded has no taps to connect.
func TestRewireOfAMachineThatEnded(t *testing.T) {
	n := &networking{cold: network.Plan{Links: []network.Link{ethernet(2, "eth0")}}}
	if err := n.rewire(t.Context(), nil); !errors.Is(err, errMachineEnded) || len(n.attached) != 0 {
		t.Errorf("%v, %d attached", err, len(n.attached))
	}
}

// TestSandboxWithoutNamespace has nothing to do for one.
func TestSandboxWithoutNamespace(t *testing.T) {
	s := &Sandbox{}
	if err := s.openNetwork("/proc/1/ns/net"); err != nil {
		t.Error(err)
	}
	if nics, err := s.network.outline(); nics != nil || err != nil {
		t.Errorf("NICs %v, %v", nics, err)
	}
	if err := errors.Join(s.network.wire(t.Context(), nil), s.network.rewire(t.Context(), nil)); err != nil {
		t.Error(err)
	}
	s.network.unwire()
	s.network.inherited()
	s.forwardLoopback()
	if err := s.syncNetwork(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.watchNetwork(); err != nil {
		t.Error(err)
	}
	if path := (&Container{sandbox: s}).NetworkPath(); path != "" {
		t.Errorf("its namespace is %q", path)
	}
}
