package qemu

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/vmm"
)

func TestExplain(t *testing.T) {
	spec := minimal()
	spec.NICs = []vmm.NIC{{ID: "n", User: &vmm.UserNetwork{Forwards: []vmm.Forward{
		{Protocol: "tcp", HostPort: 80, GuestPort: 80},
		{Protocol: "udp", HostIP: "127.0.0.1", HostPort: 53, GuestPort: 53},
	}}}}
	const rule = "qemu-system-x86_64: -netdev user,id=n: Could not set up host forwarding rule "
	for _, tc := range []struct {
		stderr string
		bind   error
		is     error
		text   string
	}{
		{rule + "'tcp::80-:80'", syscall.EADDRINUSE, errdefs.ErrUnavailable, "host port 80/tcp is in use"},
		{rule + "'udp:127.0.0.1:53-:53'", syscall.EACCES, errdefs.ErrPermissionDenied, "host port 53/udp of 127.0.0.1: ports below 1024 need root"},
		{rule + "'tcp::80-:80'", syscall.EADDRNOTAVAIL, errdefs.ErrInvalidArgument, "no such address"},
		{rule + "'tcp::80-:80'", nil, errdefs.ErrUnavailable, "cannot be listened on by QEMU"},
		{rule + "'tcp::9-:9'", nil, errdefs.ErrUnavailable, "'tcp::9-:9'"},
		{"qemu-system-x86_64: cannot set up guest memory 'mem': Cannot allocate memory\n", nil, errdefs.ErrResourceExhausted, "256 MiB"},
		{"qemu: could not open kernel file '/proc/self/fd/6': Permission denied\n", nil, errdefs.ErrFailedPrecondition, spec.Kernel},
		{"qemu: error reading initrd /proc/self/fd/7: Failed\n", nil, errdefs.ErrFailedPrecondition, spec.Initrd},
		{"qemu: could not load PC BIOS 'qboot.rom'\n", nil, errdefs.ErrFailedPrecondition, "qemu-system-data"},
		{"qemu-system-x86_64: failed to initialize kvm: Permission denied\n", nil, errdefs.ErrFailedPrecondition, "accelerator tcg"},
	} {
		x := explainer{spec: spec, bind: func(vmm.Forward) error { return tc.bind }}
		if err := x.explain(tc.stderr); !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("explain(%q) = %v, want %v, …%s…", tc.stderr, err, tc.is, tc.text)
		}
	}
	if err := (explainer{spec: spec}).explain("qemu-system-x86_64: something else\n"); err != nil {
		t.Errorf("explained the unknown: %v", err)
	}
}

func TestTryBind(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []vmm.Forward{
		{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: uint16(tcp.Addr().(*net.TCPAddr).Port)},
		{Protocol: "udp", HostIP: "127.0.0.1", HostPort: uint16(udp.LocalAddr().(*net.UDPAddr).Port)},
	} {
		if err := tryBind(f); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: %v, want EADDRINUSE", f.Protocol, err)
		}
	}
	udp.Close()
	if err := tryBind(vmm.Forward{Protocol: "udp", HostPort: uint16(udp.LocalAddr().(*net.UDPAddr).Port)}); err != nil {
		t.Errorf("a free port: %v", err)
	}
	tcp.Close()
}
