package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dougong.dev/dougong/internal/vmm"
)

// shapeMachine has one of everything.
func shapeMachine(t *testing.T) (Config, vmm.MachineSpec) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"qemu", "kernel", "initrd"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	spec := minimal()
	spec.Kernel, spec.Initrd, spec.KeepsMemory = filepath.Join(dir, "kernel"), filepath.Join(dir, "initrd"), true
	spec.Generation = FirstGeneration
	spec.Disks = []vmm.Disk{{Serial: "rootfs", ReadOnly: true}}
	spec.NICs = []vmm.NIC{{ID: "net0", MAC: "02:00:00:00:00:01", User: &vmm.UserNetwork{}}}
	return Config{Binary: filepath.Join(dir, "qemu")}, spec
}

func shapeOf(t *testing.T, c Config, spec vmm.MachineSpec) string {
	t.Helper()
	parts, err := Shape(c, spec)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(parts, "\n")
}

// TestShape changes one thing at a time and looks whether a saved machine
// could still be used.
func TestShape(t *testing.T) {
	touch := func(path string) {
		at := time.Now().Add(time.Hour)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	replace := func(path string) {
		if err := os.WriteFile(path+".new", []byte(filepath.Base(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		edit func(*Config, *vmm.MachineSpec)
		same bool
	}{
		{"name", func(_ *Config, s *vmm.MachineSpec) { s.Name = "other" }, true},
		{"serial of a disk", func(_ *Config, s *vmm.MachineSpec) { s.Disks[0].Serial = "other" }, true},
		{"forwarded ports", func(_ *Config, s *vmm.MachineSpec) {
			s.NICs[0].User = &vmm.UserNetwork{Restrict: true, Forwards: []vmm.Forward{{Protocol: "tcp", HostPort: 1, GuestPort: 1}}}
		}, true},
		{"shares", func(_ *Config, s *vmm.MachineSpec) { s.Shares = []vmm.Share{{Tag: "a"}} }, true},
		{"memory and state", func(_ *Config, s *vmm.MachineSpec) { s.Saved, s.Memory = true, &vmm.Memory{Private: true} }, true},
		{"generation", func(_ *Config, s *vmm.MachineSpec) { s.Generation = "4f3c2d1e-0000-4000-8000-0123456789ab" }, true},
		{"user of QEMU", func(c *Config, _ *vmm.MachineSpec) { c.UID, c.GID = 1, 1 }, true},
		{"path of the kernel", func(_ *Config, s *vmm.MachineSpec) {
			if err := os.Link(s.Kernel, s.Kernel+".link"); err != nil {
				t.Fatal(err)
			}
			s.Kernel += ".link"
		}, true},

		{"CPUs", func(_ *Config, s *vmm.MachineSpec) { s.CPUs = 2 }, false},
		{"CPUs at most", func(_ *Config, s *vmm.MachineSpec) { s.MaxCPUs = 2 }, false},
		{"memory", func(_ *Config, s *vmm.MachineSpec) { s.MemoryMiB++ }, false},
		{"memory given back", func(_ *Config, s *vmm.MachineSpec) { s.KeepsMemory = false }, false},
		{"no generation", func(_ *Config, s *vmm.MachineSpec) { s.Generation = "" }, false},
		{"accelerator", func(_ *Config, s *vmm.MachineSpec) { s.Accelerator = vmm.KVM }, false},
		{"command line", func(_ *Config, s *vmm.MachineSpec) { s.Cmdline += " more" }, false},
		{"number of disks", func(_ *Config, s *vmm.MachineSpec) { s.Disks = append(s.Disks, vmm.Disk{Serial: "b", ReadOnly: true}) }, false},
		{"writable disk", func(_ *Config, s *vmm.MachineSpec) { s.Disks[0].ReadOnly = false }, false},
		{"no network", func(_ *Config, s *vmm.MachineSpec) { s.NICs = nil }, false},
		{"tap instead of the user network", func(_ *Config, s *vmm.MachineSpec) { s.NICs[0].User, s.NICs[0].Tap = nil, queues(1) }, false},
		{"MAC", func(_ *Config, s *vmm.MachineSpec) { s.NICs[0].MAC = "02:00:00:00:00:02" }, false},
		{"QEMU written to", func(c *Config, _ *vmm.MachineSpec) { touch(c.Binary) }, false},
		{"QEMU replaced", func(c *Config, _ *vmm.MachineSpec) { replace(c.Binary) }, false},
		{"kernel replaced", func(_ *Config, s *vmm.MachineSpec) { replace(s.Kernel) }, false},
		{"initramfs replaced", func(_ *Config, s *vmm.MachineSpec) { replace(s.Initrd) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, spec := shapeMachine(t)
			before := shapeOf(t, c, spec)
			tc.edit(&c, &spec)
			if diff := cmp.Diff(before, shapeOf(t, c, spec)); (diff == "") != tc.same {
				t.Errorf("want the same: %v; (-before +after):\n%s", tc.same, diff)
			}
		})
	}
}

// TestShapeOfTaps: whose the tap is does not matter, and its queues do.
func TestShapeOfTaps(t *testing.T) {
	c, spec := shapeMachine(t)
	shape := func(tap *vmm.Tap) string {
		spec.NICs = []vmm.NIC{{ID: "net0", MAC: "02:00:00:00:00:01", Tap: tap}}
		return shapeOf(t, c, spec)
	}
	one := shape(queues(1))
	if other := shape(&vmm.Tap{Files: []*os.File{os.Stderr}}); other != one {
		t.Errorf("another tap makes another machine: %s", cmp.Diff(one, other))
	}
	if shape(queues(2)) == one {
		t.Error("another queue does not count")
	}
}

func TestShapeErrors(t *testing.T) {
	for name, edit := range map[string]func(*Config, *vmm.MachineSpec){
		"no QEMU":      func(c *Config, _ *vmm.MachineSpec) { c.Binary += ".gone" },
		"no kernel":    func(_ *Config, s *vmm.MachineSpec) { s.Kernel += ".gone" },
		"no initramfs": func(_ *Config, s *vmm.MachineSpec) { s.Initrd += ".gone" },
		"bad spec":     func(_ *Config, s *vmm.MachineSpec) { s.CPUs = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			c, spec := shapeMachine(t)
			edit(&c, &spec)
			if parts, err := Shape(c, spec); err == nil {
				t.Errorf("no error but %q", parts)
			}
		})
	}
}

// TestBlank must not have the caller's machine changed.
func TestBlank(t *testing.T) {
	_, spec := shapeMachine(t)
	blank := Blank(spec)
	if blank.Disks[0].Serial == spec.Disks[0].Serial || blank.NICs[0].User == spec.NICs[0].User {
		t.Errorf("blank has parts of its original: %+v", blank)
	}
	if !blank.NICs[0].User.Restrict || spec.NICs[0].User.Restrict {
		t.Error("a template is to have no network, and its clones one")
	}
}
