package agent

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	api "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/guest/netif"
)

// networkParameter of the command line has a ConfigureRequest in base64: the
// network of every clone of this machine.
const networkParameter = "dougong.network"

// prepareNetwork configures the network before the machine is saved.
func (p *parts) prepareNetwork(ctx context.Context, line commandLine) error {
	value, ok := line[networkParameter]
	if !ok {
		return nil
	}
	data, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return fmt.Errorf("%s=%s: %w", networkParameter, value, err)
	}
	network := &api.ConfigureRequest{}
	if err := proto.Unmarshal(data, network); err != nil {
		return fmt.Errorf("%s=%s: %w", networkParameter, value, err)
	}
	if err := netif.Apply(ctx, network.Interfaces, network.Routes); err != nil {
		return err
	}
	p.network = network
	return nil
}

// configureNetwork does what was not done before the machine was saved.
func (s *service) configureNetwork(ctx context.Context, r *api.ConfigureRequest) error {
	if s.network != nil && sameNetwork(s.network, r) {
		return netif.AssignMACs(r.Interfaces)
	}
	return netif.Apply(ctx, r.Interfaces, r.Routes)
}

// sameNetwork compares all but the addresses that are each clone's own.
func sameNetwork(a, b *api.ConfigureRequest) bool {
	if len(a.Interfaces) != len(b.Interfaces) || len(a.Routes) != len(b.Routes) {
		return false
	}
	for i := range a.Interfaces {
		if !sameInterface(a.Interfaces[i], b.Interfaces[i]) {
			return false
		}
	}
	for i := range a.Routes {
		x, y := a.Routes[i], b.Routes[i]
		if x.Destination != y.Destination || x.Gateway != y.Gateway || x.Device != y.Device || x.Source != y.Source || x.LinkScope != y.LinkScope {
			return false
		}
	}
	return true
}

// sameInterface compares by hand: proto.Equal is a lot of code for a machine
// that runs all code for the first time.
func sameInterface(a, b *api.Interface) bool {
	return a.Name == b.Name && a.Mac == b.Mac && a.Mtu == b.Mtu && slices.Equal(a.Addresses, b.Addresses)
}
