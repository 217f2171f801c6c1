package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/vmm"
)

// stripPrefix takes the program's name off each line of QEMU's text.
func stripPrefix(stderr string) string {
	var b strings.Builder
	for line := range strings.Lines(stderr) {
		b.WriteString(strings.TrimPrefix(line, binaryName+": "))
	}
	return b.String()
}

// explainer knows the machine that QEMU complains about.
type explainer struct {
	spec vmm.MachineSpec
	// bind tries to listen on a forward's host port.
	bind func(vmm.Forward) error
}

// explain turns QEMU's text into an error that says what to do; nil when the
// text is unknown.
func (x explainer) explain(stderr string) error {
	switch {
	case strings.Contains(stderr, "Could not set up host forwarding rule"):
		return x.explainForward(stderr)
	case strings.Contains(stderr, "Cannot allocate memory"):
		return fmt.Errorf("the host has not enough memory for a guest of %d MiB; ask for less, or free some: %w", x.spec.MemoryMiB, errdefs.ErrResourceExhausted)
	case containsAny(stderr, "could not open kernel file", "could not load kernel", "invalid kernel header", "linux kernel too old", "Error loading uncompressed kernel"):
		return fmt.Errorf("the kernel %s cannot be loaded: %s: %w", x.spec.Kernel, firstLine(stderr), errdefs.ErrFailedPrecondition)
	case containsAny(stderr, "could not load initrd", "error reading initrd", "initrd is too large"):
		return fmt.Errorf("the initramfs %s cannot be loaded: %s: %w", x.spec.Initrd, firstLine(stderr), errdefs.ErrFailedPrecondition)
	case strings.Contains(stderr, "could not load PC BIOS"):
		return fmt.Errorf("QEMU has no firmware qboot.rom; install the package qemu-system-data: %w", errdefs.ErrFailedPrecondition)
	case strings.Contains(stderr, "failed to initialize kvm"):
		return fmt.Errorf("KVM is not usable: %s; use accelerator tcg: %w", firstLine(stderr), errdefs.ErrFailedPrecondition)
	}
	return nil
}

func containsAny(s string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(s, part) })
}

func firstLine(stderr string) string {
	line, _, _ := strings.Cut(stripPrefix(stderr), "\n")
	return line
}

// explainForward finds the forward that QEMU names. QEMU does not say why it
// could not listen, so the port is tried once more here.
func (x explainer) explainForward(stderr string) error {
	for _, n := range x.spec.NICs {
		if n.User == nil {
			continue
		}
		for _, f := range n.User.Forwards {
			if !strings.Contains(stderr, "'"+forwardRule(f)+"'") {
				continue
			}
			return forwardError(f, x.bind(f))
		}
	}
	return fmt.Errorf("a forward of a host port cannot be set up: %s: %w", firstLine(stderr), errdefs.ErrUnavailable)
}

func forwardError(f vmm.Forward, err error) error {
	what := fmt.Sprintf("host port %s/%s", strconv.Itoa(int(f.HostPort)), f.Protocol)
	if f.HostIP != "" {
		what += " of " + f.HostIP
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is in use; choose another, or stop what listens there: %w", what, errdefs.ErrUnavailable)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: the host has no such address: %w", what, errdefs.ErrInvalidArgument)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s: ports below 1024 need root: %w", what, errdefs.ErrPermissionDenied)
	}
	return fmt.Errorf("%s cannot be listened on by QEMU: %w", what, errdefs.ErrUnavailable)
}

// tryBind listens on a forward's host port for a moment.
func tryBind(f vmm.Forward) error {
	host := f.HostIP
	if host == "" {
		host = "0.0.0.0"
	}
	address := net.JoinHostPort(host, strconv.Itoa(int(f.HostPort)))
	var lc net.ListenConfig
	ctx := context.Background()
	if f.Protocol == "udp" {
		c, err := lc.ListenPacket(ctx, "udp4", address)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := lc.Listen(ctx, "tcp4", address)
	if err != nil {
		return err
	}
	return l.Close()
}
