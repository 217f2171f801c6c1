package shim

import (
	"crypto/rand"
	"fmt"

	"github.com/containerd/errdefs"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/sandbox"
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

// addNetwork adds the network of a sandbox without a network namespace.
func addNetwork(o *sandbox.Options, mode string, forwards []config.Forward) error {
	if mode == "none" {
		if len(forwards) > 0 {
			return fmt.Errorf("published ports need a network, and this sandbox has none: %w", errdefs.ErrInvalidArgument)
		}
		return nil
	}
	user := &vmm.UserNetwork{}
	for _, f := range forwards {
		user.Forwards = append(user.Forwards, vmm.Forward(f))
	}
	o.Machine.NICs = []vmm.NIC{{ID: "net0", MAC: deviceMAC, User: user}}
	o.Interfaces = []*agentapi.Interface{{Name: userDevice, Mac: deviceMAC, AssignMac: randomMAC(), Mtu: 1500, Addresses: []string{userAddress}}}
	o.Routes = []*agentapi.Route{{Gateway: userGateway, Device: userDevice}}
	return nil
}

// randomMAC returns a locally administered unicast address.
func randomMAC() string {
	var b [6]byte
	// crypto/rand.Read never fails on Linux.
	_, _ = rand.Read(b[:])
	b[0] = b[0]&^1 | 2
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}
