package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/qmp"
	"dougong.dev/dougong/internal/vmm"
)

// AttachNIC plugs a NIC with a tap into a running machine. On an error nothing
// of it is left there.
func (m *Machine) AttachNIC(ctx context.Context, n vmm.NIC) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("attach NIC %q: %w", n.ID, err)
		}
	}()
	if err := validateNICs(vmm.MachineSpec{NICs: []vmm.NIC{n}}); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if n.Tap == nil {
		return fmt.Errorf("it has no tap: %w", errdefs.ErrInvalidArgument)
	}
	if err := checkQueues(n); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	bus, err := m.slots.take()
	if err != nil {
		return err
	}
	if err := m.addTap(ctx, n); err != nil {
		m.slots.give(bus)
		return err
	}
	if err := m.qmp.Execute(ctx, "device_add", nicProperties(n, bus), nil); err != nil {
		m.slots.give(bus)
		return errors.Join(err, m.removeBackend(ctx, n.ID))
	}
	m.nics.put(n.ID, bus)
	return nil
}

// addTap gives QEMU the queues of a tap.
func (m *Machine) addTap(ctx context.Context, n vmm.NIC) error {
	var names []string
	for i, f := range n.Tap.Files {
		name := fmt.Sprintf("%s-%d", n.ID, i)
		if err := m.qmp.ExecuteFD(ctx, "getfd", map[string]any{"fdname": name}, nil, f); err != nil {
			return err
		}
		names = append(names, name)
	}
	// What is not taken stays with the monitor until it is closed by name.
	backend := map[string]any{"type": "tap", "id": n.ID, "fds": strings.Join(names, ":"), "vhost": false}
	err := m.qmp.Execute(ctx, "netdev_add", backend, nil)
	if err == nil {
		return nil
	}
	for _, name := range names {
		_ = m.qmp.Execute(ctx, "closefd", map[string]any{"fdname": name}, nil)
	}
	return err
}

// nicProperties is nicDevice as QMP wants it.
func nicProperties(n vmm.NIC, bus string) map[string]any {
	properties := map[string]any{
		"driver": "virtio-net-pci", "id": nicDeviceID(n.ID), "netdev": n.ID, "mac": n.MAC, "bus": bus,
		"romfile": "", "guest_announce": false, "disable-legacy": "on",
	}
	if queues := len(n.Tap.Files); queues > 1 {
		properties["mq"], properties["vectors"] = true, 2*queues+2
	}
	return properties
}

// DetachNIC unplugs a NIC. A guest that keeps the device until ctx ends loses
// the network behind it all the same, and its port is not used again.
func (m *Machine) DetachNIC(ctx context.Context, id string) error {
	err := m.unplug(ctx, nicDeviceID(id))
	if err == nil {
		if bus, ok := m.nics.take(id); ok {
			m.slots.give(bus)
		}
	}
	// ctx may be over, and the backend must go.
	if err := errors.Join(err, m.removeBackend(context.WithoutCancel(ctx), id)); err != nil {
		return fmt.Errorf("detach NIC %q: %w", id, err)
	}
	return nil
}

func (m *Machine) removeBackend(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, backendTimeout)
	defer cancel()
	return m.qmp.Execute(ctx, "netdev_del", map[string]any{"id": id}, nil)
}

// unplug asks the guest for a device and waits until it has let go of it.
func (m *Machine) unplug(ctx context.Context, id string) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	events := m.qmp.Events(watching)
	if err := m.qmp.Execute(ctx, "device_del", map[string]any{"id": id}, nil); err != nil {
		return err
	}
	for e := range events {
		if e.Name == "DEVICE_DELETED" && deviceOf(e) == id {
			return nil
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("the guest does not let go of it: %w", context.Cause(ctx))
	}
	return fmt.Errorf("the machine ended: %w", errdefs.ErrUnavailable)
}

func deviceOf(e qmp.Event) string {
	var data struct{ Device string }
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return ""
	}
	return data.Device
}
