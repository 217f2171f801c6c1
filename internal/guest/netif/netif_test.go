package netif

import (
	"context"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
)

const mac = "02:00:00:00:00:01"

// inNetwork runs a test in a network of its own, on a thread that is thrown
// away with it.
func inNetwork(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		test(t)
	}()
	<-done
}

func plug(t *testing.T) {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		t.Error(err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "some0", HardwareAddr: hw}, PeerName: "peer0"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Errorf("add interface: %v", err)
	}
}

func plan() Plan {
	interfaces := []*agent.Interface{{
		Name: "eth0", Mac: mac, Mtu: 1400, Addresses: []string{"10.0.2.15/24", "fec0::15/64"},
	}}
	routes := []*agent.Route{
		{Gateway: "10.0.2.2", Device: "eth0"},
		{Destination: "192.0.2.0/24", Device: "eth0", LinkScope: true, Source: "10.0.2.15"},
	}
	return Plan{Interfaces: interfaces, Routes: routes}
}

func TestApply(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		plug(t)
		for range 2 {
			if err := Apply(t.Context(), plan()); err != nil {
				t.Error(err)
				return
			}
		}
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			t.Error(err)
			return
		}
		if a := link.Attrs(); a.MTU != 1400 || a.Flags&net.FlagUp == 0 || a.HardwareAddr.String() != mac {
			t.Errorf("interface: %+v", a)
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != "10.0.2.15/24" {
			t.Errorf("addresses: %v, %v", addrs, err)
		}
		var got []string
		list, err := netlink.RouteList(link, netlink.FAMILY_V4)
		if err != nil {
			t.Error(err)
		}
		for _, r := range list {
			got = append(got, r.Dst.String()+" "+r.Gw.String())
		}
		want := []string{"0.0.0.0/0 10.0.2.2", "10.0.2.0/24 <nil>", "192.0.2.0/24 <nil>"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestLoopbackOnly(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		if err := Apply(t.Context(), Plan{}); err != nil {
			t.Error(err)
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil || lo.Attrs().Flags&net.FlagUp == 0 {
			t.Errorf("loopback: %v, %v", lo, err)
		}
	})
}

func TestMissingInterface(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := Apply(ctx, Plan{Interfaces: plan().Interfaces}); !errdefs.IsNotFound(err) {
			t.Errorf("got %v", err)
		}
	})
}

func TestBadPlans(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		plug(t)
		for name, i := range map[string]*agent.Interface{
			"mac":     {Name: "eth0", Mac: "xyz"},
			"address": {Name: "eth0", Mac: mac, Addresses: []string{"10.0.0.1"}},
		} {
			if err := Apply(t.Context(), Plan{Interfaces: []*agent.Interface{i}}); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, r := range map[string]*agent.Route{
			"empty":       {},
			"destination": {Destination: "x"},
			"gateway":     {Gateway: "x"},
			"source":      {Destination: "10.0.0.0/8", Source: "x"},
		} {
			if err := Apply(t.Context(), Plan{Routes: []*agent.Route{r}}); !errdefs.IsInvalidArgument(err) {
				t.Errorf("route %s: %v", name, err)
			}
		}
	})
}

func TestAssignMACs(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		plug(t)
		if err := Apply(t.Context(), plan()); err != nil {
			t.Error(err)
			return
		}
		const own = "02:00:00:00:00:77"
		if err := AssignMACs([]*agent.Interface{{Name: "eth0", AssignMac: own}, {Name: "keeps-its-own"}}); err != nil {
			t.Error(err)
		}
		link, err := netlink.LinkByName("eth0")
		if err != nil || link.Attrs().HardwareAddr.String() != own || link.Attrs().Flags&net.FlagUp == 0 {
			t.Errorf("interface: %+v, %v", link, err)
		}
		for name, i := range map[string]*agent.Interface{
			"no such interface": {Name: "eth7", AssignMac: own}, "no address": {Name: "eth0", AssignMac: "x"},
			"long name": {Name: "a-name-of-16-byte", AssignMac: own},
		} {
			if err := AssignMACs([]*agent.Interface{i}); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
}

func TestIPv6WithoutAddress(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		plug(t)
		interfaces := plan().Interfaces
		interfaces[0].Addresses = []string{"10.0.2.15/24"}
		if err := Apply(t.Context(), Plan{Interfaces: interfaces}); err != nil {
			t.Error(err)
			return
		}
		// The file is that of the thread's own network.
		got, err := os.ReadFile("/proc/thread-self/root/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
		if err != nil || string(got) != "1\n" {
			t.Errorf("disable_ipv6 is %q, %v", got, err)
		}
	})
}

// TestLinkLocalAddress is there and usable at once, without a carrier, with the
// route that the kernel makes of it; other bare addresses bring none.
func TestLinkLocalAddress(t *testing.T) {
	inNetwork(t, func(t *testing.T) {
		plug(t)
		i := &agent.Interface{Name: "eth0", Mac: mac, Ipv6: true, BareAddresses: true, Addresses: []string{"fd09::2/64", "fe80::ff:fe00:1/64"}}
		if err := Apply(t.Context(), Plan{Interfaces: []*agent.Interface{i}}); err != nil {
			t.Error(err)
			return
		}
		out, err := exec.Command("sh", "-c", "ip -6 addr show dev eth0; ip -6 route show dev eth0").CombinedOutput()
		if text := string(out); err != nil || !strings.Contains(text, "inet6 fe80::ff:fe00:1/64 scope link") || strings.Contains(text, "tentative") ||
			!strings.Contains(text, "fe80::/64 ") || strings.Contains(text, "fd09::/64 ") {
			t.Errorf("%s%v", out, err)
		}
	})
}
