package qemu

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/vmm"
)

// slots are the ports of a machine that nothing is plugged into.
type slots struct {
	mu   sync.Mutex
	free []string
}

func newSlots(spec vmm.MachineSpec) *slots {
	s := new(slots)
	for i := range hotplugPorts(spec) {
		s.free = append(s.free, HotplugBus(i))
	}
	return s
}

// take returns the bus behind a free port.
func (s *slots) take() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		return "", fmt.Errorf("all ports for devices that are plugged in later are taken: %w", errdefs.ErrResourceExhausted)
	}
	bus := s.free[0]
	s.free = s.free[1:]
	return bus, nil
}

func (s *slots) give(bus string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Who takes a machine over takes the ports from the first one on.
	s.free = append([]string{bus}, s.free...)
}

// AttachShare plugs a share into a running machine.
func (m *Machine) AttachShare(ctx context.Context, share vmm.Share) error {
	bus, err := m.slots.take()
	if err != nil {
		return fmt.Errorf("attach share %q: %w", share.Tag, err)
	}
	id := "share-" + bus
	if err := m.qmp.ExecuteFD(ctx, "getfd", map[string]any{"fdname": id}, nil, share.Socket); err != nil {
		return fmt.Errorf("attach share %q: %w", share.Tag, err)
	}
	chardev := map[string]any{"id": id, "backend": map[string]any{"type": "socket", "data": map[string]any{
		"server": false, "addr": map[string]any{"type": "fd", "data": map[string]any{"str": id}},
	}}}
	if err := m.qmp.Execute(ctx, "chardev-add", chardev, nil); err != nil {
		return fmt.Errorf("attach share %q: %w", share.Tag, err)
	}
	device := map[string]any{
		"driver": "vhost-user-fs-pci", "id": id + "-device", "chardev": id, "tag": share.Tag,
		"bus": bus, "queue-size": 1024,
	}
	if err := m.qmp.Execute(ctx, "device_add", device, nil); err != nil {
		return fmt.Errorf("attach share %q: %w", share.Tag, err)
	}
	m.nics.put(shareID(share.Tag), bus)
	return nil
}

// shareID is no name of a NIC.
func shareID(tag string) string { return "share " + tag }

// DetachShare unplugs a share that the guest has unmounted. A guest that keeps the
// device until ctx ends keeps it, and its port is not used again.
func (m *Machine) DetachShare(ctx context.Context, tag string) error {
	bus, ok := m.nics.take(shareID(tag))
	if !ok {
		return fmt.Errorf("detach share %q: %w", tag, errdefs.ErrNotFound)
	}
	id := "share-" + bus
	err := m.unplug(ctx, id+"-device")
	if err == nil {
		err = m.qmp.Execute(ctx, "chardev-remove", map[string]any{"id": id}, nil)
	}
	if err != nil {
		return fmt.Errorf("detach share %q: %w", tag, err)
	}
	m.slots.give(bus)
	return nil
}
