package qemu

import (
	"context"
	"fmt"

	"dougong.dev/dougong/internal/vmm"
)

// AttachShare plugs a share into a running machine, behind the hot-plug port
// of that number.
func (m *Machine) AttachShare(ctx context.Context, port int, share vmm.Share) error {
	id := fmt.Sprintf("share-hotplug%d", port)
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
		"bus": HotplugBus(port), "queue-size": 1024,
	}
	if err := m.qmp.Execute(ctx, "device_add", device, nil); err != nil {
		return fmt.Errorf("attach share %q: %w", share.Tag, err)
	}
	return nil
}
