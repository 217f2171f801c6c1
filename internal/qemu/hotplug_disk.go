package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/qmp"
	"dougong.dev/dougong/internal/vmm"
)

// DisksPerPort is how many disks share one port: a PCI device has eight
// functions, and the guest finds all of them when the first one comes, which is
// plugged in last.
const DisksPerPort = 8

// firstHotDisk is above the numbers of disks that are there from the start.
const firstHotDisk = 1000

// hotDisks numbers the disks that are plugged in.
var hotDisks atomic.Int64

// DiskSet are disks that were plugged in together.
type DiskSet struct {
	bus   string
	disks []hotDisk
}

// hotDisk is one of them, by the number that its names are made of.
type hotDisk struct {
	number int64
	fdset  bool
	node   bool
	device bool
}

func (d hotDisk) nodeName() string { return fmt.Sprintf("disk%d", d.number) }
func (d hotDisk) deviceID() string { return d.nodeName() + "-device" }

// AttachDisks plugs at most DisksPerPort disks into a running machine, behind one
// port. On an error nothing of them is left there. The files stay the caller's.
func (m *Machine) AttachDisks(ctx context.Context, disks []vmm.Disk) (*DiskSet, error) {
	if len(disks) == 0 || len(disks) > DisksPerPort {
		return nil, fmt.Errorf("attach %d disks to one port: want 1 to %d: %w", len(disks), DisksPerPort, errdefs.ErrInvalidArgument)
	}
	bus, err := m.slots.take()
	if err != nil {
		return nil, fmt.Errorf("attach disks: %w", err)
	}
	set := &DiskSet{bus: bus}
	for function, d := range slices.Backward(disks) {
		set.disks = append(set.disks, hotDisk{number: firstHotDisk + hotDisks.Add(1)})
		if err := m.attachDisk(ctx, set, function, d); err != nil {
			err = fmt.Errorf("attach disk %q: %w", d.Serial, err)
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), unplugDisks)
			defer cancel()
			return nil, errors.Join(err, m.DetachDisks(undo, set))
		}
	}
	return set, nil
}

// unplugDisks bounds how long a guest may hold disks that could not all be
// plugged in.
const unplugDisks = 10 * time.Second

// attachDisk adds the last of a set, as a function of the port's device.
func (m *Machine) attachDisk(ctx context.Context, set *DiskSet, function int, d vmm.Disk) error {
	block, err := checkDisk(d)
	if err != nil {
		return err
	}
	hot := &set.disks[len(set.disks)-1]
	if err := m.qmp.ExecuteFD(ctx, "add-fd", map[string]any{"fdset-id": hot.number}, nil, d.File); err != nil {
		return err
	}
	hot.fdset = true
	if err := m.qmp.Execute(ctx, "blockdev-add", diskNode(*hot, d, block), nil); err != nil {
		return err
	}
	hot.node = true
	device := map[string]any{
		"driver": "virtio-blk-pci", "id": hot.deviceID(), "drive": hot.nodeName(), "serial": d.Serial, "bus": set.bus,
		"addr": fmt.Sprintf("0.%d", function), "multifunction": true, "disable-legacy": "on",
	}
	if err := m.qmp.Execute(ctx, "device_add", device, nil); err != nil {
		return err
	}
	hot.device = true
	return nil
}

// diskNode is what diskArgs says, as QMP wants it.
func diskNode(hot hotDisk, d vmm.Disk, block bool) map[string]any {
	node := map[string]any{
		"driver": "file", "node-name": hot.nodeName(), "filename": fmt.Sprintf("/dev/fdset/%d", hot.number),
		"auto-read-only": false, "read-only": d.ReadOnly,
	}
	if block {
		node["driver"] = "host_device"
	}
	if d.ReadOnly {
		// Nobody writes, so there is nothing to lock against.
		node["locking"] = "off"
	} else {
		node["discard"] = "unmap"
	}
	return node
}

// ResizeDisks tells the guest that the files of a set of disks have come to have
// this size in bytes.
func (m *Machine) ResizeDisks(ctx context.Context, set *DiskSet, size int64) error {
	for _, d := range set.disks {
		if err := m.qmp.Execute(ctx, "block_resize", map[string]any{"node-name": d.nodeName(), "size": size}, nil); err != nil {
			return fmt.Errorf("resize disk to %d bytes: %w", size, err)
		}
	}
	return nil
}

// DetachDisks unplugs a set of disks, and lets go of their files once the guest
// has let go of the disks. A guest that does not do so until ctx ends keeps them,
// and their port is not used again.
func (m *Machine) DetachDisks(ctx context.Context, set *DiskSet) error {
	if err := m.unplugDisks(ctx, set); err != nil {
		return fmt.Errorf("detach disks: %w", err)
	}
	var errs []error
	for _, d := range set.disks {
		if d.node {
			errs = append(errs, m.qmp.Execute(ctx, "blockdev-del", map[string]any{"node-name": d.nodeName()}, nil))
		}
		if d.fdset {
			errs = append(errs, m.qmp.Execute(ctx, "remove-fd", map[string]any{"fdset-id": d.number}, nil))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("detach disks: %w", err)
	}
	m.slots.give(set.bus)
	return nil
}

// unplugDisks asks for the device of a port and waits until all of its functions
// are gone, or at once takes those that the guest has not seen.
func (m *Machine) unplugDisks(ctx context.Context, set *DiskSet) error {
	gone := map[string]bool{}
	for _, d := range set.disks {
		if d.device {
			gone[d.deviceID()] = false
		}
	}
	if len(gone) == 0 {
		return nil
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	events := m.qmp.Events(watching)
	for _, d := range slices.Backward(set.disks) {
		if !d.device {
			continue
		}
		err := m.qmp.Execute(ctx, "device_del", map[string]any{"id": d.deviceID()}, nil)
		if err != nil {
			return err
		}
		// One stands for all functions.
		break
	}
	left := len(gone)
	for e := range events {
		if id := deletedDevice(e); id != "" {
			if done, ours := gone[id]; ours && !done {
				gone[id] = true
				left--
			}
		}
		if left == 0 {
			return nil
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("the guest does not let go of them: %w", context.Cause(ctx))
	}
	return fmt.Errorf("the machine ended: %w", errdefs.ErrUnavailable)
}

// deletedDevice is the id of a device that is gone, "" for any other event.
func deletedDevice(e qmp.Event) string {
	if e.Name != "DEVICE_DELETED" {
		return ""
	}
	var data struct{ Device string }
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return ""
	}
	return data.Device
}
