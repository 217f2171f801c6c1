package qemu

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/vmm"
)

// Limits of devices, in bytes.
const (
	maxSerial = 20
	maxTag    = 36
)

// minMemoryMiB is what a kernel and its initramfs need to get to init at all.
const minMemoryMiB = 64

// maxCPUs is what q35 takes without an interrupt remapping unit.
const maxCPUs = 255

// idPattern is what QEMU takes as an id.
var idPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,63}$`)

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// validate refuses what QEMU would refuse with a worse text, or take in a way
// nobody meant.
func validate(spec vmm.MachineSpec) error {
	for _, check := range []func(vmm.MachineSpec) error{
		validateMachine, validateKernel, validateDisks, validateNICs, validateShares,
	} {
		if err := check(spec); err != nil {
			return fmt.Errorf("machine %q: %w: %w", spec.Name, err, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func validateMachine(spec vmm.MachineSpec) error {
	switch {
	case spec.Accelerator != vmm.KVM && spec.Accelerator != vmm.TCG:
		return fmt.Errorf("accelerator %q is neither kvm nor tcg", spec.Accelerator)
	case spec.CPUs < 1 || spec.CPUs > maxCPUs:
		return fmt.Errorf("%d CPUs: want 1 to %d", spec.CPUs, maxCPUs)
	case spec.MaxCPUs != 0 && (spec.MaxCPUs < spec.CPUs || spec.MaxCPUs > maxCPUs):
		return fmt.Errorf("at most %d CPUs: want 0 or %d to %d", spec.MaxCPUs, spec.CPUs, maxCPUs)
	case spec.MemoryMiB < minMemoryMiB:
		return fmt.Errorf("%d MiB of memory: want at least %d", spec.MemoryMiB, minMemoryMiB)
	case spec.MaxMemoryMiB != 0 && spec.MaxMemoryMiB < spec.MemoryMiB:
		return fmt.Errorf("at most %d MiB of memory: want 0 or at least %d", spec.MaxMemoryMiB, spec.MemoryMiB)
	case spec.Memory != nil && spec.Memory.Private && (!spec.KeepsMemory || len(spec.Shares) > 0):
		return fmt.Errorf("memory that is private to it must be kept by the guest, and cannot be served by another process")
	case spec.Generation != "" && !uuidPattern.MatchString(spec.Generation):
		return fmt.Errorf("generation %q is not a UUID", spec.Generation)
	case strings.ContainsRune(spec.Name, 0) || strings.ContainsRune(spec.Cmdline, 0):
		return fmt.Errorf("a NUL byte in the name or the kernel command line")
	}
	return nil
}

func validateKernel(spec vmm.MachineSpec) error {
	for what, path := range map[string]string{"kernel": spec.Kernel, "initramfs": spec.Initrd} {
		if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
			return fmt.Errorf("%s %q is not an absolute path", what, path)
		}
	}
	return nil
}

func validateDisks(spec vmm.MachineSpec) error {
	seen := make(map[string]bool)
	for _, d := range spec.Disks {
		switch {
		case d.Serial == "" || len(d.Serial) > maxSerial || !printable(d.Serial):
			return fmt.Errorf("disk serial %q: want 1 to %d printable bytes", d.Serial, maxSerial)
		case seen[d.Serial]:
			return fmt.Errorf("two disks with the serial %q", d.Serial)
		}
		seen[d.Serial] = true
	}
	return nil
}

func validateShares(spec vmm.MachineSpec) error {
	seen := make(map[string]bool)
	for _, s := range spec.Shares {
		switch {
		case s.Tag == "" || len(s.Tag) > maxTag || !printable(s.Tag):
			return fmt.Errorf("share tag %q: want 1 to %d printable bytes", s.Tag, maxTag)
		case seen[s.Tag]:
			return fmt.Errorf("two shares with the tag %q", s.Tag)
		}
		seen[s.Tag] = true
	}
	return nil
}

func validateNICs(spec vmm.MachineSpec) error {
	seen := make(map[string]bool)
	for _, n := range spec.NICs {
		switch {
		case !idPattern.MatchString(n.ID):
			return fmt.Errorf("NIC id %q: want a letter, then letters, digits and any of ._-", n.ID)
		case seen[n.ID]:
			return fmt.Errorf("two NICs with the id %q", n.ID)
		case (n.User == nil) == (n.Tap == nil):
			return fmt.Errorf("NIC %q: want one backend", n.ID)
		}
		if err := validateTap(n.Tap); err != nil {
			return fmt.Errorf("NIC %q: %w", n.ID, err)
		}
		if mac, err := net.ParseMAC(n.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return fmt.Errorf("NIC %q: %q is not a unicast MAC address", n.ID, n.MAC)
		}
		if err := validateForwards(n.User); err != nil {
			return fmt.Errorf("NIC %q: %w", n.ID, err)
		}
		seen[n.ID] = true
	}
	return nil
}

// maxQueues is what virtio-net takes of pairs that anybody has a use for.
const maxQueues = 64

func validateTap(t *vmm.Tap) error {
	if t != nil && (len(t.Files) == 0 || len(t.Files) > maxQueues) {
		return fmt.Errorf("a tap of %d queues: want 1 to %d", len(t.Files), maxQueues)
	}
	return nil
}

func validateForwards(u *vmm.UserNetwork) error {
	if u == nil {
		return nil
	}
	for _, f := range u.Forwards {
		if err := validateForward(f); err != nil {
			return err
		}
	}
	return nil
}

func validateForward(f vmm.Forward) error {
	if f.Protocol != "tcp" && f.Protocol != "udp" {
		return fmt.Errorf("forward protocol %q is neither tcp nor udp", f.Protocol)
	}
	if f.HostPort == 0 || f.GuestPort == 0 {
		return fmt.Errorf("forward of host port %d to guest port %d: want 1 to 65535", f.HostPort, f.GuestPort)
	}
	if f.HostIP == "" {
		return nil
	}
	ip, err := netip.ParseAddr(f.HostIP)
	if err != nil {
		return fmt.Errorf("forward of host port %d: %w", f.HostPort, err)
	}
	if !ip.Is4() {
		return fmt.Errorf("forward of host port %d: %s is not IPv4, the only kind that user-mode networking forwards", f.HostPort, ip)
	}
	return nil
}

// printable says that s is plain ASCII, which every guest shows alike.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
