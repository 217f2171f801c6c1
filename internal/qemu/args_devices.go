package qemu

import (
	"cmp"
	"fmt"
	"strconv"

	"dougong.dev/dougong/internal/vmm"
)

// HotplugPorts is how many devices can be plugged in later, unless the machine
// says something else. q35's own bus
// refuses them, so that each needs a port made in advance.
const HotplugPorts = 4

// moreChassis is above the chassis numbers of the usual ports and of NICs.
const moreChassis = 100

func hotplugPorts(spec vmm.MachineSpec) int { return cmp.Or(spec.HotplugPorts, HotplugPorts) }

// chassis is the number that a port has, which no other may have.
func chassis(port int) int {
	if port < HotplugPorts {
		return port + 1
	}
	return moreChassis + port
}

// HotplugBus is the bus behind a port, numbered from 0. It takes one device, at
// address 0.
func HotplugBus(port int) string { return "hotplug" + strconv.Itoa(port) }

// virtio ends every virtio device's options: the legacy interface would only
// cost the guest more probing.
const virtio = "disable-legacy=on"

// lineArgs connect QMP, the agent's port and the serial console.
func lineArgs(fds FDs) []string {
	return []string{
		"-chardev", socket("qmp", fds.QMP),
		"-mon", "chardev=qmp,mode=control",
		"-chardev", socket("console", fds.Console),
		"-device", "isa-serial,chardev=console",
		"-chardev", socket("agent", fds.Agent),
		// Two ports and not the default 31: the guest sets up queues for all.
		"-device", option("virtio-serial-pci", "id=serial", "max_ports=2", virtio),
		"-device", option("virtserialport", "bus=serial.0", "nr=1", "chardev=agent", "name="+AgentPort),
	}
}

func socket(id string, fd int) string {
	return option("socket", "id="+id, "fd="+strconv.Itoa(fd))
}

// commonDeviceArgs are what every machine has: a way to report a panic,
// entropy, a sign of having been cloned, memory given back to the host unless it must not be, and ports for
// hot-plug.
func commonDeviceArgs(spec vmm.MachineSpec) []string {
	args := []string{
		"-device", "pvpanic",
		"-object", "rng-builtin,id=entropy",
		"-device", option("virtio-rng-pci", "rng=entropy", virtio),
	}
	if spec.Generation != "" {
		args = append(args, "-device", option("vmgenid", "id=generation", "guid="+spec.Generation))
	}
	if !spec.KeepsMemory {
		args = append(args, "-device", option("virtio-balloon-pci", "id=balloon", "free-page-reporting=on", "deflate-on-oom=on", virtio))
	}
	args = append(args, growthArgs(spec)...)
	for i := range hotplugPorts(spec) {
		args = append(args, "-device", option("pcie-root-port", "id="+HotplugBus(i), "chassis="+strconv.Itoa(chassis(i))))
	}
	return args
}

// growthDevice is the device through which a guest gets more memory, and gives
// it back.
const growthDevice = "growth-device"

// growthArgs are that device, which has no memory at first. What is behind it is
// its own, never a template's, so that pages given back are the host's again.
func growthArgs(spec vmm.MachineSpec) []string {
	if growth(spec) == 0 {
		return nil
	}
	return []string{
		"-object", option("memory-backend-memfd", "id=growth", "size="+strconv.Itoa(growth(spec))+"M", "share=on", "reserve=off"),
		"-device", option("virtio-mem-pci", "id="+growthDevice, "memdev=growth", "requested-size=0", virtio),
	}
}

// diskArgs attach one disk. The file comes as a descriptor, so that QEMU's
// user need not reach its path, and a read-only disk is read-only in QEMU too.
func diskArgs(i int, d vmm.Disk, file DiskFD) []string {
	driver, access := "file", "read-only=off,discard=unmap"
	if file.Block {
		driver = "host_device"
	}
	if d.ReadOnly {
		// Nobody writes, so there is nothing to lock against.
		access = "read-only=on,locking=off"
	}
	node := "disk" + strconv.Itoa(i)
	path := "filename=/dev/fdset/" + strconv.Itoa(i)
	return []string{
		"-add-fd", fmt.Sprintf("fd=%d,set=%d", file.FD, i),
		"-blockdev", option("driver="+driver, "node-name="+node, path, "auto-read-only=off", access),
		"-device", option("virtio-blk-pci", "id="+node+"-device", "drive="+node, "serial="+escape(d.Serial), virtio),
	}
}

// forwardRule is QEMU's notation, which its errors show too.
func forwardRule(f vmm.Forward) string {
	return fmt.Sprintf("%s:%s:%d-:%d", f.Protocol, f.HostIP, f.HostPort, f.GuestPort)
}

func shareArgs(i int, s vmm.Share, fd int) []string {
	id := "share" + strconv.Itoa(i)
	return []string{
		"-chardev", socket(id, fd),
		"-device", option("vhost-user-fs-pci", "id="+id+"-device", "chardev="+id, "tag="+escape(s.Tag), "queue-size=1024"),
	}
}
