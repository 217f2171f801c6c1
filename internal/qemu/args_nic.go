package qemu

import (
	"strconv"
	"strings"

	"dougong.dev/dougong/internal/vmm"
)

// nicArgs attach one network device. One with a tap has a port of its own, since
// it may have to be unplugged.
func nicArgs(i int, n vmm.NIC, queues []int) []string {
	device := nicDevice(n, len(queues))
	if n.Tap == nil {
		return []string{"-netdev", option(userBackend(n)...), "-device", option(device...)}
	}
	port := nicPort(i)
	return []string{
		"-device", option("pcie-root-port", "id="+port, "chassis="+strconv.Itoa(HotplugPorts+1+i)),
		"-netdev", option("tap", "id="+n.ID, "fds="+joinFDs(queues), "vhost=off"),
		"-device", option(append(device, "bus="+port)...),
	}
}

// nicPort is the bus behind the port of the machine's NIC of that number.
func nicPort(i int) string { return "nic" + strconv.Itoa(i) }

// nicDevice are the options of the device itself. Each queue has an interrupt
// for either way; there is one for the control queue and one for changes.
func nicDevice(n vmm.NIC, queues int) []string {
	device := []string{"virtio-net-pci", "id=" + nicDeviceID(n.ID), "netdev=" + n.ID, "mac=" + n.MAC, "romfile=", "guest_announce=off", virtio}
	if queues > 1 {
		device = append(device, "mq=on", "vectors="+strconv.Itoa(2*queues+2))
	}
	return device
}

func nicDeviceID(id string) string { return id + "-device" }

// userBackend has no IPv6 because the guest of a user network has no route to
// offer for it.
func userBackend(n vmm.NIC) []string {
	backend := []string{"user", "id=" + n.ID, "ipv6=off"}
	if n.User.Restrict {
		backend = append(backend, "restrict=on")
	}
	for _, f := range n.User.Forwards {
		backend = append(backend, "hostfwd="+forwardRule(f))
	}
	return backend
}

func joinFDs(fds []int) string {
	var numbers []string
	for _, fd := range fds {
		numbers = append(numbers, strconv.Itoa(fd))
	}
	return strings.Join(numbers, ":")
}
