package qemu

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/vmm"
)

// fakeProbe is a host of the test's choice.
type fakeProbe struct {
	createErr, openErr error
	cpuinfo            string
}

func (p fakeProbe) CreateVM() error { return p.createErr }

func (p fakeProbe) CPUInfo() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(p.cpuinfo)), p.openErr
}

const (
	intel = "processor\t: 0\nmodel name\t: X\nflags\t\t: fpu vme vmx ssse3\n\nprocessor\t: 1\n"
	amd   = "processor\t: 0\nflags\t\t: fpu svm\n"
	plain = "processor\t: 0\nflags\t\t: fpu xvmx svml\nvmx flags\t: vnmi\nbugs\t: vmx svm\n"
)

func TestDetectAccelerator(t *testing.T) {
	gone := errors.New("open /dev/kvm: no such file or directory")
	for _, tc := range []struct {
		name   string
		want   vmm.Accelerator
		probe  fakeProbe
		got    vmm.Accelerator
		reason string
		is     error
	}{
		{"auto on intel", vmm.Auto, fakeProbe{cpuinfo: intel}, vmm.KVM, "/dev/kvm works", nil},
		{"auto on amd", vmm.Auto, fakeProbe{cpuinfo: amd}, vmm.KVM, "/dev/kvm works", nil},
		{"unset is auto", "", fakeProbe{cpuinfo: amd}, vmm.KVM, "/dev/kvm works", nil},
		{"auto without kvm", vmm.Auto, fakeProbe{createErr: gone, cpuinfo: intel}, vmm.TCG, "no such file", nil},
		{"auto in the trap", vmm.Auto, fakeProbe{cpuinfo: plain}, vmm.TCG, "neither vmx nor svm", nil},
		{"auto with no cpuinfo", vmm.Auto, fakeProbe{openErr: gone}, vmm.TCG, "no such file", nil},
		{"auto with empty cpuinfo", vmm.Auto, fakeProbe{}, vmm.TCG, "neither vmx nor svm", nil},
		{"auto with endless line", vmm.Auto, fakeProbe{cpuinfo: strings.Repeat("x", 2*maxCPULine)}, vmm.TCG, "read the CPU's features", nil},
		{"kvm", vmm.KVM, fakeProbe{cpuinfo: intel}, vmm.KVM, "/dev/kvm works", nil},
		{"kvm without kvm", vmm.KVM, fakeProbe{createErr: gone, cpuinfo: intel}, "", "", errdefs.ErrFailedPrecondition},
		{"kvm in the trap", vmm.KVM, fakeProbe{cpuinfo: plain}, "", "", errdefs.ErrFailedPrecondition},
		{"tcg", vmm.TCG, fakeProbe{cpuinfo: intel}, vmm.TCG, "asked for", nil},
		{"unknown", "xen", fakeProbe{cpuinfo: intel}, "", "", errdefs.ErrInvalidArgument},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, reason, err := detectAccelerator(tc.want, tc.probe)
			if got != tc.got || !strings.Contains(reason, tc.reason) {
				t.Errorf("= %q because %q, want %q because …%s…", got, reason, tc.got, tc.reason)
			}
			if !errors.Is(err, tc.is) {
				t.Errorf("err = %v, want %v", err, tc.is)
			}
		})
	}
}

// This host is what it is, but auto must always come to a choice.
func TestDetectAcceleratorHere(t *testing.T) {
	got, reason, err := DetectAccelerator(vmm.Auto)
	if err != nil || got == vmm.Auto || reason == "" {
		t.Errorf("= %q, %q, %v", got, reason, err)
	}
	t.Logf("%s: %s", got, reason)
}

func FuzzHasVirtualization(f *testing.F) {
	f.Add(intel)
	f.Add(plain)
	f.Add("flags")
	f.Fuzz(func(t *testing.T, s string) {
		ok, err := hasVirtualization(strings.NewReader(s))
		if ok && (err != nil || !strings.Contains(s, "vmx") && !strings.Contains(s, "svm")) {
			t.Errorf("found an extension in %q", s)
		}
	})
}
