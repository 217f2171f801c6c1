package sandbox

import (
	"os"
	"testing"

	"dougong.dev/dougong/internal/vmm"
)

func emulated() vmm.MachineSpec {
	return vmm.MachineSpec{
		Name: "box", Accelerator: vmm.TCG, CPUs: 1, MemoryMiB: 256, Cmdline: "quiet",
		Disks: []vmm.Disk{{Serial: "image", ReadOnly: true}},
		NICs:  []vmm.NIC{{ID: "net0", MAC: "02:00:00:00:00:01", User: &vmm.UserNetwork{}}},
	}
}

func TestThawable(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*vmm.MachineSpec)
		want   bool
	}{
		"emulated":        {func(*vmm.MachineSpec) {}, true},
		"no network":      {func(s *vmm.MachineSpec) { s.NICs = nil }, true},
		"shares":          {func(s *vmm.MachineSpec) { s.Shares = []vmm.Share{{Tag: "x"}} }, true},
		"KVM":             {func(s *vmm.MachineSpec) { s.Accelerator = vmm.KVM }, false},
		"tap":             {func(s *vmm.MachineSpec) { s.NICs[0] = vmm.NIC{ID: "net0", Tap: &vmm.Tap{Files: make([]*os.File, 1)}} }, true},
		"tap with queues": {func(s *vmm.MachineSpec) { s.NICs[0] = vmm.NIC{ID: "net0", Tap: &vmm.Tap{Files: make([]*os.File, 2)}} }, false},
		"low port": {func(s *vmm.MachineSpec) {
			s.NICs[0].User.Forwards = []vmm.Forward{{Protocol: "tcp", HostPort: 80, GuestPort: 80}}
		}, false},
	} {
		spec := emulated()
		tt.change(&spec)
		if got := thawable(spec); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
		off, on := Options{}, Options{WarmTemplates: true}
		if off.keepsVMM(spec) || on.keepsVMM(spec) != tt.want {
			t.Errorf("%s: the switch does nothing", name)
		}
	}
}

// TestFrozenKind has machines differ in what no guest sees and QEMU has set up.
func TestFrozenKind(t *testing.T) {
	kind := func(change func(*vmm.MachineSpec)) string {
		t.Helper()
		spec := emulated()
		change(&spec)
		k, err := frozenKind(spec)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	plain := kind(func(*vmm.MachineSpec) {})
	for name, change := range map[string]func(*vmm.MachineSpec){
		"name":    func(s *vmm.MachineSpec) { s.Name = "other" },
		"disk":    func(s *vmm.MachineSpec) { s.Disks[0].Serial, s.Disks[0].File = "other", os.Stdin },
		"forward": func(s *vmm.MachineSpec) { s.NICs[0].User.Forwards = []vmm.Forward{{HostPort: 8080, GuestPort: 80}} },
		"share":   func(s *vmm.MachineSpec) { s.Shares = []vmm.Share{{Tag: "x", Socket: os.Stdin}} },
		"path":    func(s *vmm.MachineSpec) { s.Kernel, s.Initrd = "/other/vmlinux", "/other/initramfs" },
		"waiting": func(s *vmm.MachineSpec) { *s = waiting(*s) },
	} {
		if kind(change) != plain {
			t.Errorf("another %s makes another kind", name)
		}
	}
	for name, change := range map[string]func(*vmm.MachineSpec){
		"restricted": func(s *vmm.MachineSpec) { s.NICs[0].User.Restrict = true },
		"memory":     func(s *vmm.MachineSpec) { s.MemoryMiB = 512 },
		"writable":   func(s *vmm.MachineSpec) { s.Disks[0].ReadOnly = false },
	} {
		if kind(change) == plain {
			t.Errorf("%s makes no other kind", name)
		}
	}
}
