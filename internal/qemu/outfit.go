package qemu

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dougong.dev/dougong/internal/vmm"
)

// errForward says that QEMU refused a forward; why is its own text.
var errForward = errors.New("QEMU cannot forward the port")

// DiskSerial is what the guest finds the i-th disk of a Blank machine by. The
// serial of a disk cannot be changed once its machine has started.
func DiskSerial(i int) string { return fmt.Sprintf("slot-%d", i) }

// ReplaceDisk puts another file behind the i-th disk, which must be as
// read-only as the one before. The guest must be stopped, and sees no change
// but in what it reads. The file stays the caller's.
func (m *Machine) ReplaceDisk(ctx context.Context, i int, d vmm.Disk) error {
	if err := m.replaceDisk(ctx, i, d); err != nil {
		return fmt.Errorf("replace disk %q: %w", d.Serial, err)
	}
	return nil
}

// replacedSets is above the numbers of the file sets that a machine starts with,
// and below those of disks that are plugged in.
const replacedSets = firstHotDisk / 2

func (m *Machine) replaceDisk(ctx context.Context, i int, d vmm.Disk) error {
	block, err := checkDisk(d)
	if err != nil {
		return err
	}
	set, node := replacedSets+i, fmt.Sprintf("replaced%d", i)
	if err := m.qmp.ExecuteFD(ctx, "add-fd", map[string]any{"fdset-id": set}, nil, d.File); err != nil {
		return err
	}
	blockdev := map[string]any{
		"driver": "file", "node-name": node, "filename": fmt.Sprintf("/dev/fdset/%d", set), "auto-read-only": false, "read-only": d.ReadOnly,
	}
	if block {
		blockdev["driver"] = "host_device"
	}
	if d.ReadOnly {
		blockdev["locking"] = "off"
	} else {
		blockdev["discard"] = "unmap"
	}
	if err := m.qmp.Execute(ctx, "blockdev-add", blockdev, nil); err != nil {
		return err
	}
	drive := map[string]any{"path": fmt.Sprintf("/machine/peripheral/disk%d-device", i), "property": "drive", "value": node}
	return m.qmp.Execute(ctx, "qom-set", drive, nil)
}

// AddForward has a host port lead into the guest through the user network of
// the NIC with that id.
func (m *Machine) AddForward(ctx context.Context, nic string, f vmm.Forward) error {
	var text string
	line := map[string]any{"command-line": "hostfwd_add " + nic + " " + forwardRule(f)}
	if err := m.qmp.Execute(ctx, "human-monitor-command", line, &text); err != nil {
		return fmt.Errorf("forward a port: %w", err)
	}
	if text = strings.TrimSpace(text); text == "" {
		return nil
	}
	if err := tryBind(f); err != nil {
		return forwardError(f, err)
	}
	return fmt.Errorf("%w: %s", errForward, text)
}
