package shim

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/network"
	"dougong.dev/dougong/internal/sandbox"
)

func withNetwork(path string) *specs.Spec {
	return &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: path}}}}
}

func TestNetworkOfANamespace(t *testing.T) {
	for name, tt := range map[string]struct {
		path string
		link config.Link
		want sandbox.Network
	}{
		"given": {"/run/netns/a", config.Link{}, sandbox.Network{Path: "/run/netns/a", Options: network.Options{Queues: 1}}},
		"new":   {"", config.Link{}, sandbox.Network{Options: network.Options{Queues: 1}}},
		"shaped": {
			"/run/netns/a",
			config.Link{Queues: 2, Inbound: 64000, Outbound: 1e6},
			sandbox.Network{Path: "/run/netns/a", Options: network.Options{Queues: 2, Receive: 64000, Send: 1e6}},
		},
	} {
		var o sandbox.Options
		if err := addNetwork(&o, namespaceNetwork, config.Overrides{Link: tt.link}, withNetwork(tt.path)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(&tt.want, o.Network); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if len(o.Machine.NICs) > 0 || len(o.Interfaces) > 0 {
			t.Errorf("%s: there is another network beside it: %+v", name, o)
		}
	}
}

func TestNetworkRefuses(t *testing.T) {
	forwards := []config.Forward{{Protocol: "tcp", HostPort: 1, GuestPort: 1}}
	for name, tt := range map[string]struct {
		mode string
		over config.Overrides
		want string
	}{
		"ports of a namespace":  {namespaceNetwork, config.Overrides{Forwards: forwards}, "published ports"},
		"ports of no network":   {"none", config.Overrides{Forwards: forwards}, "published ports"},
		"queues of no network":  {"none", config.Overrides{Link: config.Link{Queues: 2}}, "queues and rates"},
		"rates of user network": {"user", config.Overrides{Link: config.Link{Inbound: 64000}}, "queues and rates"},
	} {
		var o sandbox.Options
		err := addNetwork(&o, tt.mode, tt.over, withNetwork(""))
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
