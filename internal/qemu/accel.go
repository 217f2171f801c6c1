package qemu

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/vmm"
)

// DetectAccelerator resolves what a user asked for to vmm.KVM or vmm.TCG, and
// says in words why. Asking for KVM where it cannot run a stock kernel is an
// error; vmm.Auto then takes TCG.
func DetectAccelerator(want vmm.Accelerator) (vmm.Accelerator, string, error) {
	return detectAccelerator(want, hostProbe{})
}

// probe is what the choice depends on.
type probe interface {
	// CreateVM makes and drops a virtual machine.
	CreateVM() error
	// CPUInfo opens the kernel's description of the CPUs.
	CPUInfo() (io.ReadCloser, error)
}

func detectAccelerator(want vmm.Accelerator, p probe) (vmm.Accelerator, string, error) {
	switch want {
	case vmm.TCG:
		return vmm.TCG, "emulation was asked for", nil
	case vmm.KVM, vmm.Auto, "":
	default:
		return "", "", fmt.Errorf("accelerator %q: want auto, kvm or tcg: %w", want, errdefs.ErrInvalidArgument)
	}
	problem := kvmProblem(p)
	switch {
	case problem == nil:
		return vmm.KVM, "/dev/kvm works and the CPU has virtualization extensions", nil
	case want == vmm.KVM:
		return "", "", fmt.Errorf("accelerator kvm: %w; use accelerator auto or tcg to run without it: %w", problem, errdefs.ErrFailedPrecondition)
	}
	return vmm.TCG, fmt.Sprintf("KVM is not usable: %v; emulating, which is several times slower", problem), nil
}

// kvmProblem says why KVM cannot run a stock kernel; nil if it can. A device
// that opens and makes machines is not enough: without the CPU's extensions
// (KVM_PVM, for one) a stock kernel dies in it.
func kvmProblem(p probe) error {
	if err := p.CreateVM(); err != nil {
		return err
	}
	f, err := p.CPUInfo()
	if err != nil {
		return err
	}
	defer f.Close()
	ok, err := hasVirtualization(f)
	if err != nil {
		return fmt.Errorf("read the CPU's features: %w", err)
	}
	if !ok {
		return fmt.Errorf("/dev/kvm makes virtual machines, but the CPU shows neither vmx nor svm, so that an ordinary kernel would not run in them")
	}
	return nil
}

// maxCPULine bounds a line of cpuinfo, in bytes.
const maxCPULine = 64 << 10

// hasVirtualization looks at the first CPU in a cpuinfo.
func hasVirtualization(cpuinfo io.Reader) (bool, error) {
	lines := bufio.NewScanner(cpuinfo)
	lines.Buffer(nil, maxCPULine)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(key) == "flags" {
			flags := strings.Fields(value)
			return slices.Contains(flags, "vmx") || slices.Contains(flags, "svm"), nil
		}
	}
	return false, lines.Err()
}

// Numbers of the KVM device's ioctl interface, which x/sys does not have.
const (
	kvmGetAPIVersion = 0xae00
	kvmCreateVM      = 0xae01
	kvmAPIVersion    = 12
)

// hostProbe asks this host.
type hostProbe struct{}

// CPUInfo implements probe.
func (hostProbe) CPUInfo() (io.ReadCloser, error) { return os.Open("/proc/cpuinfo") }

// CreateVM implements probe.
func (hostProbe) CreateVM() error {
	kvm, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/kvm: %w", err)
	}
	defer unix.Close(kvm)
	version, err := unix.IoctlRetInt(kvm, kvmGetAPIVersion)
	if err != nil {
		return fmt.Errorf("ask /dev/kvm for its version: %w", err)
	}
	if version != kvmAPIVersion {
		return fmt.Errorf("/dev/kvm has version %d of its interface, want %d", version, kvmAPIVersion)
	}
	vm, err := unix.IoctlRetInt(kvm, kvmCreateVM)
	if err != nil {
		return fmt.Errorf("make a virtual machine with /dev/kvm: %w", err)
	}
	return unix.Close(vm)
}
