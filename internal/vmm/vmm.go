// Package vmm describes a virtual machine as plain data: what the sandbox
// asks for and what a VMM package (qemu today) turns into a process.
//
// It owns names and defaults of that description and must not do anything: no
// system call, no file, no process.
package vmm

import "os"

// Accelerator is what executes guest code.
type Accelerator string

// The accelerators a MachineSpec may name. Auto is resolved before a machine
// is started and is never part of a MachineSpec.
const (
	Auto Accelerator = "auto"
	KVM  Accelerator = "kvm"
	TCG  Accelerator = "tcg"
)

// MachineSpec is everything a VMM must know to start one virtual machine.
type MachineSpec struct {
	// Name shows up in the VMM's process title and in its errors.
	Name string
	// Accelerator is KVM or TCG.
	Accelerator Accelerator
	// CPUs is the number of virtual CPUs at start, at least 1.
	CPUs int
	// MaxCPUs is how many CPUs can be plugged in later; 0 means CPUs.
	MaxCPUs int
	// MemoryMiB is the guest's memory in MiB.
	MemoryMiB int
	// MaxMemoryMiB is how much memory the guest can have when more is plugged in
	// later; 0 means MemoryMiB.
	MaxMemoryMiB int
	// SharedMemory backs guest memory with a shared memfd, which vhost-user
	// devices (Shares) need.
	SharedMemory bool
	// Memory holds the guest's memory; nil is fresh memory of the VMM's own.
	Memory *Memory
	// Saved says that the machine does not boot: it goes on where a saved one
	// was, once it is given that one's device state.
	Saved bool
	// KeepsMemory leaves out the device by which a guest gives memory back to
	// the host. It punches holes into the file behind the memory, private or
	// not, and so into that of every other user of the file.
	KeepsMemory bool
	// Generation, a UUID, is another one in each machine that goes on from the
	// same saved state. A guest kernel that knows the device for it reseeds its
	// random generator when the UUID has changed. Empty leaves the device out.
	Generation string
	// Kernel is the path of an uncompressed ELF kernel with a PVH note, or of
	// a bzImage.
	Kernel string
	// Initrd is the path of the guest initramfs.
	Initrd string
	// Cmdline is the kernel command line.
	Cmdline string
	// HotplugPorts is how many devices can be plugged in later; 0 is the usual
	// number.
	HotplugPorts int
	// Disks are attached as virtio-blk devices in this order.
	Disks []Disk
	// NICs are attached as virtio-net devices in this order.
	NICs []NIC
	// Shares are attached as vhost-user-fs devices in this order.
	Shares []Share
}

// Memory is a file that holds a guest's memory. The VMM opens it by way of
// its descriptor, so its user must have the right to read and write the file,
// but need not reach its path.
type Memory struct {
	// File is the file itself, or a directory when Name is set.
	File *os.File
	// Name is the file's name in the directory File.
	Name string
	// Private keeps the guest's writes out of the file: pages are shared with
	// every other user of the file until they are written to. Shares need
	// memory that is not private.
	Private bool
}

// Disk is one virtio-blk device.
type Disk struct {
	// Serial is what the guest finds the disk by; at most 20 bytes.
	Serial string
	// File is the open image or block device. The VMM inherits it, so the path
	// need not be reachable for the VMM's user. It is not closed by the VMM
	// package.
	File *os.File
	// ReadOnly says that File is open for reading only and that the guest
	// must not write.
	ReadOnly bool
}

// NIC is one virtio-net device with its backend.
type NIC struct {
	// ID names the device and its backend in the VMM.
	ID string
	// MAC is the address the guest sees.
	MAC string
	// User is set for user-mode networking, Tap for a device of the host.
	User *UserNetwork
	Tap  *Tap
}

// Tap is a network device of the host that the VMM holds the other end of. Its
// frames have the virtio header.
type Tap struct {
	// Files are its queues, at least one. They are not closed by the VMM package.
	// In a description of what is not started yet they may be nil.
	Files []*os.File
}

// UserNetwork is a network stack inside the VMM: outbound connections, and
// inbound ones through forwards. The guest is 10.0.2.15/24, the gateway
// 10.0.2.2, the name server 10.0.2.3.
type UserNetwork struct {
	// Restrict cuts off everything except forwards.
	Restrict bool
	// Forwards are host ports that lead into the guest.
	Forwards []Forward
}

// Forward leads one host port into the guest.
type Forward struct {
	// Protocol is "tcp" or "udp".
	Protocol string
	// HostIP is the listening address; empty means all IPv4 addresses.
	HostIP string
	// HostPort and GuestPort are 1 to 65535.
	HostPort, GuestPort uint16
}

// Share is one directory tree of the host served by a vhost-user-fs daemon.
type Share struct {
	// Tag is what the guest mounts, at most 36 bytes.
	Tag string
	// Socket is a connected UNIX socket to the daemon. It is not closed by
	// the VMM package.
	Socket *os.File
}
