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
	s.free = append(s.free, bus)
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
	return nil
}
