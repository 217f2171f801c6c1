package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/network"
	"dougong.dev/dougong/internal/vmm"
)

// blankTap is a tap that leads nowhere.
func blankTap(t *testing.T, queues int) *vmm.Tap {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a tap")
	}
	files, err := network.Blank(queues)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range files {
			_ = f.Close()
		}
	})
	return &vmm.Tap{Files: files}
}

func tapNIC(t *testing.T, n, queues int) vmm.NIC {
	t.Helper()
	return vmm.NIC{ID: fmt.Sprintf("net%d", n), MAC: fmt.Sprintf("02:00:00:00:00:%02x", n), Tap: blankTap(t, queues)}
}

// networkDevices counts QEMU's network devices.
func networkDevices(t *testing.T, m *Machine) int {
	t.Helper()
	var filters []struct{ Name string }
	if err := m.QMP().Execute(deadline(t), "query-rx-filter", nil, &filters); err != nil {
		t.Fatal(err)
	}
	return len(filters)
}

// TestAttachNIC fills every port of a machine that had two NICs from the start,
// run by a user that may not make taps.
func TestAttachNIC(t *testing.T) {
	spec := tinyMachine(t, "up\n", hang)
	spec.NICs = []vmm.NIC{tapNIC(t, 0, 1), tapNIC(t, 1, 2)}
	m := start(t, unprivileged(), spec)
	for i := range HotplugPorts {
		if err := m.AttachNIC(deadline(t), tapNIC(t, 2+i, 1+i%2)); err != nil {
			t.Fatal(err)
		}
	}
	if got := networkDevices(t, m); got != 2+HotplugPorts {
		t.Errorf("there are %d NICs, want %d", got, 2+HotplugPorts)
	}
	if err := m.AttachNIC(deadline(t), tapNIC(t, 30, 1)); !errdefs.IsResourceExhausted(err) {
		t.Errorf("one more than there are ports: %v", err)
	}
}

func TestAttachNICRefuses(t *testing.T) {
	m := start(t, unprivileged(), tinyMachine(t, "up\n", hang))
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, nic := range map[string]vmm.NIC{
		"user network": {ID: "net0", MAC: "02:00:00:00:00:01", User: &vmm.UserNetwork{}},
		"bad address":  {ID: "net0", MAC: "01:00:00:00:00:01", Tap: &vmm.Tap{Files: []*os.File{null}}},
		"no file":      {ID: "net0", MAC: "02:00:00:00:00:01", Tap: &vmm.Tap{Files: []*os.File{null, nil}}},
	} {
		if err := m.AttachNIC(deadline(t), nic); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// QEMU itself refuses what is no tap, more often than there are ports: none
	// may be lost.
	for range HotplugPorts + 1 {
		err := m.AttachNIC(deadline(t), vmm.NIC{ID: "net0", MAC: "02:00:00:00:00:01", Tap: &vmm.Tap{Files: []*os.File{null}}})
		if err == nil || errdefs.IsResourceExhausted(err) {
			t.Errorf("a file that is no tap: %v", err)
		}
	}
	if err := m.AttachNIC(deadline(t), tapNIC(t, 0, 1)); err != nil {
		t.Error(err)
	}
}

// TestDetachNICOfAGuestThatKeepsIt takes the network away all the same.
func TestDetachNICOfAGuestThatKeepsIt(t *testing.T) {
	m := start(t, unprivileged(), tinyMachine(t, "up\n", hang))
	nic := tapNIC(t, 0, 1)
	if err := m.AttachNIC(deadline(t), nic); err != nil {
		t.Fatal(err)
	}
	patience, cancel := context.WithTimeoutCause(context.Background(), 100*time.Millisecond, errors.New("patience is over"))
	defer cancel()
	err := m.DetachNIC(patience, nic.ID)
	if err == nil || !strings.Contains(err.Error(), "patience is over") || !strings.Contains(err.Error(), nic.ID) {
		t.Errorf("error is %v", err)
	}
	// The backend is gone: its name is free again.
	if err := m.QMP().Execute(deadline(t), "netdev_del", map[string]any{"id": nic.ID}, nil); err == nil {
		t.Error("the guest still has a network")
	}
	if err := m.DetachNIC(deadline(t), "never-was"); err == nil {
		t.Error("no error for a NIC that is not there")
	}
}

func TestDetachShareThatIsNotThere(t *testing.T) {
	m := start(t, unprivileged(), tinyMachine(t, "up\n", hang))
	if err := m.DetachShare(deadline(t), "none"); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "none") {
		t.Errorf("got %v", err)
	}
}

// TestPortsAreTakenFromTheFirst has whoever takes a machine over find the ports as
// they were at the start.
func TestPortsAreTakenFromTheFirst(t *testing.T) {
	s := newSlots(vmm.MachineSpec{})
	first, err := s.take()
	if err != nil {
		t.Fatal(err)
	}
	s.give(first)
	for i := range HotplugPorts {
		if bus, err := s.take(); err != nil || bus != HotplugBus(i) {
			t.Errorf("port %d is %s, %v", i, bus, err)
		}
	}
	if _, err := s.take(); !errdefs.IsResourceExhausted(err) {
		t.Errorf("one more: %v", err)
	}
}
