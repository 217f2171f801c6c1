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
	if err := netif.Apply(ctx, planOf(network)); err != nil {
		return err
	}
	p.network = network
	return nil
}

// networkRequest is the part of a request that both kinds have.
type networkRequest interface {
	GetInterfaces() []*api.Interface
	GetRoutes() []*api.Route
	GetNeighbours() []*api.Neighbour
}

func planOf(n networkRequest) netif.Plan {
	return netif.Plan{Interfaces: n.GetInterfaces(), Routes: n.GetRoutes(), Neighbours: n.GetNeighbours()}
}

// configureNetwork does what was not done before the machine was saved.
func (s *service) configureNetwork(ctx context.Context, r *api.ConfigureRequest) error {
	s.networking.Lock()
	defer s.networking.Unlock()
	if s.network != nil && sameNetwork(s.network, r) {
		s.plan = planOf(r)
		return netif.AssignMACs(r.Interfaces)
	}
	if err := netif.Apply(ctx, planOf(r)); err != nil {
		return err
	}
	s.plan = planOf(r)
	return nil
}

// SetNetwork changes the network of a machine that runs.
func (s *service) SetNetwork(ctx context.Context, r *api.SetNetworkRequest) (*api.SetNetworkResponse, error) {
	s.networking.Lock()
	defer s.networking.Unlock()
	if err := netif.Replace(ctx, s.plan, planOf(r)); err != nil {
		return nil, err
	}
	s.plan = planOf(r)
	return &api.SetNetworkResponse{}, nil
}

// sameNetwork compares all but the addresses that are each clone's own.
func sameNetwork(a, b *api.ConfigureRequest) bool {
	if len(a.Interfaces) != len(b.Interfaces) || len(a.Routes) != len(b.Routes) || len(b.Neighbours) > 0 {
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
