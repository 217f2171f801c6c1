package shim

import (
	"crypto/rand"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/network"
	"dougong.dev/dougong/internal/sandbox"
	"dougong.dev/dougong/internal/standin"
	"dougong.dev/dougong/internal/vmm"
)

// The guest's end of the VMM's user network; the VMM has no other addresses.
const (
	userAddress = "10.0.2.15/24"
	userGateway = "10.0.2.2"
	userDevice  = "eth0"
	// deviceMAC is the address of every VM's first network device. The guest
	// changes it, since clones of a VM cannot start with different ones.
	deviceMAC = "02:64:6f:75:67:00"
)

// namespaceNetwork is the mode in which a sandbox has what is in its network
// namespace. Daemons and OCI callers fill one; no configuration can ask for it.
const namespaceNetwork = "namespace"

// addNetwork gives a sandbox its network.
func addNetwork(o *sandbox.Options, mode string, over config.Overrides, spec *specs.Spec) error {
	if mode != "user" && len(over.Forwards) > 0 {
		return fmt.Errorf("published ports need the VMM's own network, and this sandbox has another, or none: %w", errdefs.ErrInvalidArgument)
	}
	if mode != namespaceNetwork && over.Link != (config.Link{}) {
		return fmt.Errorf("queues and rates are for interfaces of a network namespace, and this sandbox has none: %w", errdefs.ErrInvalidArgument)
	}
	switch mode {
	case "user":
		addUserNetwork(o, over.Forwards)
	case namespaceNetwork:
		o.Network = &sandbox.Network{Path: netPath(spec), Options: network.Options{
			Queues: max(over.Link.Queues, 1), Receive: over.Link.Inbound, Send: over.Link.Outbound,
		}}
	}
	return nil
}

// netPath is the path of the network namespace that a spec asks for, empty for
// a new one.
func netPath(spec *specs.Spec) string {
	if path := standin.NetOf(spec); path != standin.NewNet {
		return path
	}
	return ""
}

// addUserNetwork adds the network of a sandbox without a network namespace.
func addUserNetwork(o *sandbox.Options, forwards []config.Forward) {
	user := &vmm.UserNetwork{}
	for _, f := range forwards {
		user.Forwards = append(user.Forwards, vmm.Forward(f))
	}
	o.Machine.NICs = []vmm.NIC{{ID: "net0", MAC: deviceMAC, User: user}}
	o.Interfaces = []*agentapi.Interface{{Name: userDevice, Mac: deviceMAC, AssignMac: randomMAC(), Mtu: 1500, Addresses: []string{userAddress}}}
	o.Routes = []*agentapi.Route{{Gateway: userGateway, Device: userDevice}}
}

// randomMAC returns a locally administered unicast address.
func randomMAC() string {
	var b [6]byte
	// crypto/rand.Read never fails on Linux.
	_, _ = rand.Read(b[:])
	b[0] = b[0]&^1 | 2
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}
