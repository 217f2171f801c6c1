package agent

import (
	"encoding/base64"
	"testing"

	api "dougong.dev/dougong/api/agent/v1"
)

func network(change func(*api.ConfigureRequest)) *api.ConfigureRequest {
	n := &api.ConfigureRequest{
		Interfaces: []*api.Interface{{Name: "eth0", Mac: "02:00:00:00:00:01", Mtu: 1500, Addresses: []string{"10.0.2.15/24"}}},
		Routes:     []*api.Route{{Gateway: "10.0.2.2", Device: "eth0"}},
	}
	if change != nil {
		change(n)
	}
	return n
}

func TestSameNetwork(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*api.ConfigureRequest)
		want   bool
	}{
		{"nothing", nil, true},
		{"what is a clone's own", func(n *api.ConfigureRequest) {
			n.Interfaces[0].AssignMac, n.Hostname, n.Entropy = "02:00:00:00:00:09", "a", []byte{1}
		}, true},
		{"an address", func(n *api.ConfigureRequest) { n.Interfaces[0].Addresses[0] = "10.0.2.16/24" }, false},
		{"an address more", func(n *api.ConfigureRequest) {
			n.Interfaces[0].Addresses = append(n.Interfaces[0].Addresses, "10.0.2.17/24")
		}, false},
		{"the MTU", func(n *api.ConfigureRequest) { n.Interfaces[0].Mtu = 9000 }, false},
		{"the device", func(n *api.ConfigureRequest) { n.Interfaces[0].Mac = "02:00:00:00:00:02" }, false},
		{"the name", func(n *api.ConfigureRequest) { n.Interfaces[0].Name = "net0" }, false},
		{"the gateway", func(n *api.ConfigureRequest) { n.Routes[0].Gateway = "10.0.2.3" }, false},
		{"the scope of a route", func(n *api.ConfigureRequest) { n.Routes[0].LinkScope = true }, false},
		{"a route less", func(n *api.ConfigureRequest) { n.Routes = nil }, false},
		{"an interface less", func(n *api.ConfigureRequest) { n.Interfaces = nil }, false},
	} {
		if got := sameNetwork(network(nil), network(test.change)); got != test.want {
			t.Errorf("with another %s: got %v", test.name, got)
		}
	}
}

func TestPrepareNetworkRefuses(t *testing.T) {
	for name, value := range map[string]string{
		"no base64": "*", "no message": base64.RawURLEncoding.EncodeToString([]byte{0xff}),
	} {
		p := &parts{}
		if err := p.prepareNetwork(t.Context(), commandLine{networkParameter: value}); err == nil || p.network != nil {
			t.Errorf("%s: %v, %v", name, p.network, err)
		}
	}
	p := &parts{}
	if err := p.prepareNetwork(t.Context(), commandLine{}); err != nil || p.network != nil {
		t.Errorf("without the parameter: %v, %v", p.network, err)
	}
}
