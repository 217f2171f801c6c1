package sandbox

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/pool"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/vmm"
)

// kindOptions are those of a sandbox whose files are there, but good for nothing.
func kindOptions(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"qemu", "kernel", "initrd"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return Options{
		ID: "one", QEMU: qemu.Config{Binary: filepath.Join(dir, "qemu")},
		Machine: vmm.MachineSpec{Name: "one", Accelerator: vmm.TCG, CPUs: 1, MemoryMiB: 256, Kernel: filepath.Join(dir, "kernel"), Initrd: filepath.Join(dir, "initrd")},
	}
}

func mustKind(t *testing.T, o Options, spec vmm.MachineSpec) pool.Kind {
	t.Helper()
	kind, ok, err := Kind(o, spec)
	if err != nil || !ok {
		t.Fatalf("%v, %v", ok, err)
	}
	return kind
}

func tapNICs(queues ...int) (nics []vmm.NIC) {
	for i, n := range queues {
		nics = append(nics, vmm.NIC{ID: nicID(i), MAC: nicMAC(i), Tap: &vmm.Tap{Files: make([]*os.File, n)}})
	}
	return nics
}

func userNIC(forwards ...vmm.Forward) []vmm.NIC {
	return []vmm.NIC{{ID: "net0", MAC: nicMAC(0), User: &vmm.UserNetwork{Forwards: forwards}}}
}

// TestKindIsEverybodys leaves out what is a sandbox's own.
func TestKindIsEverybodys(t *testing.T) {
	o := kindOptions(t)
	o.Interfaces = []*agentapi.Interface{{Name: "eth0", AssignMac: "02:00:00:00:00:01"}}
	one := o.Machine
	one.NICs, one.Disks = userNIC(vmm.Forward{Protocol: "tcp", HostPort: 8080, GuestPort: 80}), []vmm.Disk{{Serial: "a", ReadOnly: true, File: os.Stdin}}
	two := one
	two.Name, two.NICs, two.Disks = "two", userNIC(), []vmm.Disk{{Serial: "b", ReadOnly: true}}
	other := o
	other.ID, other.Interfaces = "two", []*agentapi.Interface{{Name: "eth0", AssignMac: "02:00:00:00:00:02"}}
	a, b := mustKind(t, o, one), mustKind(t, other, two)
	if a.Key != b.Key || string(a.Recipe) != string(b.Recipe) {
		t.Errorf("%s and %s are of two kinds:\n%s\n%s", a.Description, b.Description, a.Recipe, b.Recipe)
	}
}

// TestKindsDiffer in all that cannot be changed in a machine that waits, or is
// different work for it.
func TestKindsDiffer(t *testing.T) {
	o := kindOptions(t)
	seen := map[string]string{}
	for name, change := range map[string]func(o *Options, s *vmm.MachineSpec){
		"plain":             func(*Options, *vmm.MachineSpec) {},
		"memory":            func(_ *Options, s *vmm.MachineSpec) { s.MemoryMiB = 512 },
		"a disk":            func(_ *Options, s *vmm.MachineSpec) { s.Disks = []vmm.Disk{{Serial: "a", ReadOnly: true}} },
		"a writable disk":   func(_ *Options, s *vmm.MachineSpec) { s.Disks = []vmm.Disk{{Serial: "a"}} },
		"user network":      func(_ *Options, s *vmm.MachineSpec) { s.NICs = userNIC() },
		"an interface":      func(_ *Options, s *vmm.MachineSpec) { s.NICs = tapNICs(1) },
		"two interfaces":    func(_ *Options, s *vmm.MachineSpec) { s.NICs = tapNICs(1, 1) },
		"two queues":        func(_ *Options, s *vmm.MachineSpec) { s.NICs = tapNICs(2) },
		"a pod":             func(_ *Options, s *vmm.MachineSpec) { s.HotplugPorts = podPorts },
		"a share":           func(_ *Options, s *vmm.MachineSpec) { s.Shares = []vmm.Share{{Tag: "t"}} },
		"memory of its own": func(o *Options, _ *vmm.MachineSpec) { o.CopyTemplates = true },
		"an address":        func(o *Options, _ *vmm.MachineSpec) { o.Interfaces = []*agentapi.Interface{{Name: "eth0"}} },
	} {
		o := o
		spec := o.Machine
		change(&o, &spec)
		kind := mustKind(t, o, spec)
		if other, taken := seen[kind.Key]; taken {
			t.Errorf("%s and %s are of one kind", name, other)
		}
		seen[kind.Key] = name
		if user := name == "user network"; (kind.NetNS != 0) != user {
			t.Errorf("%s: bound to network namespace %d", name, kind.NetNS)
		}
	}
}

// TestKindThatCannotWait needs a privilege.
func TestKindThatCannotWait(t *testing.T) {
	o := kindOptions(t)
	spec := o.Machine
	spec.NICs = userNIC(vmm.Forward{Protocol: "tcp", HostPort: 80, GuestPort: 80})
	if kind, ok, err := Kind(o, spec); ok || err != nil {
		t.Errorf("%+v, %v", kind, err)
	}
}

// TestRecipe says enough to make the machine, of which the claimer needs the same
// parts.
func TestRecipe(t *testing.T) {
	o := kindOptions(t)
	spec := o.Machine
	spec.NICs, spec.HotplugPorts, spec.Shares = tapNICs(1, 2), podPorts, []vmm.Share{{Tag: "t"}}
	kind := mustKind(t, o, spec)
	var r recipe
	if err := json.Unmarshal(kind.Recipe, &r); err != nil {
		t.Fatal(err)
	}
	base, err := r.options(context.Background(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	nics := base.Machine.NICs
	if len(nics) != 2 || len(nics[0].Tap.Files) != 1 || len(nics[1].Tap.Files) != 2 || base.Machine.HotplugPorts != podPorts || !r.Shared || !r.Copied || len(base.Machine.Shares) != 0 {
		t.Errorf("the recipe is %s", kind.Recipe)
	}
	if again := mustKind(t, o, base.Machine); again.Key == kind.Key {
		t.Error("a machine without its share is of the same kind")
	}
	networks := player{spec: base.Machine}.networks()
	if len(networks) != 3 || len(networks[0].Interfaces) != 2 || len(networks[1].Interfaces) != 2 || len(networks[1].Routes) != 0 || len(networks[2].Interfaces) != 0 {
		t.Errorf("the rehearsal has networks %v", networks)
	}
	if networks := (player{spec: vmm.MachineSpec{NICs: userNIC()}}).networks(); networks != nil {
		t.Errorf("with a user network the rehearsal has networks %v", networks)
	}
}
