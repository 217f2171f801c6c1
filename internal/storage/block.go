package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Device is a block device of the host that a container has as such.
type Device struct {
	// Path is its node on the host.
	Path     string
	ReadOnly bool
}

// FindDevice finds the node of a block device by its numbers, in sysfs and the
// directory of device nodes. A device that is read-only itself is found so.
func FindDevice(sys, dev string, major, minor int64) (Device, error) {
	numbers := fmt.Sprintf("%d:%d", major, minor)
	dir := filepath.Join(sys, "dev/block", numbers)
	event, err := os.ReadFile(filepath.Join(dir, "uevent"))
	if err != nil {
		return Device{}, fmt.Errorf("block device %s is not on this host: %w", numbers, errdefs.ErrInvalidArgument)
	}
	d := Device{}
	for line := range strings.Lines(string(event)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok && filepath.IsLocal(name) {
			d.Path = filepath.Join(dev, name)
		}
	}
	var stat unix.Stat_t
	if err := unix.Stat(d.Path, &stat); err != nil {
		return Device{}, fmt.Errorf("node of block device %s: %w", numbers, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK || stat.Rdev != unix.Mkdev(uint32(major), uint32(minor)) {
		return Device{}, fmt.Errorf("%s is not block device %s: %w", d.Path, numbers, errdefs.ErrInvalidArgument)
	}
	ro, err := os.ReadFile(filepath.Join(dir, "ro"))
	if err != nil {
		return Device{}, fmt.Errorf("block device %s: %w", d.Path, err)
	}
	d.ReadOnly = strings.TrimSpace(string(ro)) == "1"
	return d, nil
}

// device plans a block device and returns the serial number of its disk.
func (p *Plan) device(r Request, i int, d Device) {
	serial := Serial(r.ContainerID, deviceSerials+i)
	p.Disks = append(p.Disks, Disk{Serial: serial, Path: d.Path, ReadOnly: d.ReadOnly})
	p.DeviceSerials = append(p.DeviceSerials, serial)
}

// deviceSerials is above the numbers of disks of root file systems.
const deviceSerials = 900000
