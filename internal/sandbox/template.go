package sandbox

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/freeze"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/template"
	"dougong.dev/dougong/internal/vmm"
)

// templateParameter tells the guest that it is to be saved and to go on as
// clones: it loads the modules of devices that are plugged in later too, and
// rehearses a container; see internal/guest/initd and internal/guest/agent.
const templateParameter = "dougong.template"

// modulesParameter has the guest load the modules of devices that are plugged in
// later; see internal/guest/initd.
const modulesParameter = "dougong.modules=all"

// networkParameter has a ConfigureRequest of the agent's service in base64.
const networkParameter = "dougong.network"

// slotSize is the size of a template's disks. The guest keeps it for good, so
// it is larger than any image; file systems know their own size.
const slotSize = 1 << 40

// Template returns the template of machines like spec in the store of o, and
// makes it where there is none. What differs from one clone to another does not
// matter: names, the content of disks, forwarded ports and shares. The guest's
// network must be the same for all that are to share a template; it is
// configured before the machine is saved.
func Template(ctx context.Context, o Options, spec vmm.MachineSpec) (*template.Template, error) {
	blank, err := o.blank(spec)
	if err != nil {
		return nil, err
	}
	key, err := templateKey(o, spec)
	if err != nil {
		return nil, err
	}
	binary, err := qemu.FindBinary(o.QEMU.Binary)
	if err != nil {
		return nil, err
	}
	kind := ""
	var warm func(ctx context.Context, memory, from, state *os.File, dir string) error
	if o.keepsVMM(spec) {
		if kind, err = frozenKind(spec); err != nil {
			return nil, err
		}
		warm = func(ctx context.Context, memory, from, state *os.File, dir string) (err error) {
			o.beyond(func() { err = warmTemplate(ctx, o, spec, memory, from, state, dir) })
			return err
		}
	}
	return o.Templates.GetOrCreate(ctx, template.Recipe{
		Warm: warm, Kind: kind,
		Key:         key,
		Files:       []string{binary, spec.Kernel, spec.Initrd},
		Description: describe(spec),
		MemorySize:  int64(spec.MemoryMiB) << 20,
		Boot: func(ctx context.Context, memory, state *os.File) (time.Duration, error) {
			var took time.Duration
			var err error
			// Its memory is for all clones to come, and not this sandbox's.
			o.beyond(func() { took, err = bootTemplate(ctx, o.QEMU, blank, memory, state) })
			return took, err
		},
	})
}

// describe tells people what kind of machine spec is.
func describe(spec vmm.MachineSpec) string {
	return fmt.Sprintf("%s, %d CPUs, %d MiB, %d disks, %d NICs, %s", spec.Accelerator, spec.CPUs, spec.MemoryMiB, len(spec.Disks), len(spec.NICs), spec.Kernel)
}

// blank is the machine that is saved for clones like spec.
func (o *Options) blank(spec vmm.MachineSpec) (vmm.MachineSpec, error) {
	blank := qemu.Blank(spec)
	var err error
	blank.Cmdline, err = o.templateCmdline(spec)
	blank.KeepsMemory, blank.Generation = true, qemu.FirstGeneration
	return blank, err
}

// templateKey is the key of the template of machines like spec. A VMM that was
// frozen before the host was booted is of no use.
func templateKey(o Options, spec vmm.MachineSpec) (string, error) {
	blank, err := o.blank(spec)
	if err != nil {
		return "", err
	}
	parts, err := qemu.Shape(o.QEMU, blank)
	if err != nil {
		return "", err
	}
	if o.keepsVMM(spec) {
		boot, err := freeze.BootID()
		if err != nil {
			return "", err
		}
		parts = append(parts, "with its VMM, of boot "+boot)
	}
	return template.Key(parts...), nil
}

// templateCmdline is the kernel's command line in a template of spec.
func (o *Options) templateCmdline(spec vmm.MachineSpec) (string, error) {
	value, err := o.templateNetwork()
	if err != nil {
		return "", err
	}
	return spec.Cmdline + " " + templateParameter + " " + networkParameter + "=" + base64.RawURLEncoding.EncodeToString(value), nil
}

// templateNetwork is the network of a template, encoded. Of an interface it
// leaves out what is a clone's own.
func (o *Options) templateNetwork() ([]byte, error) {
	network := &agentapi.ConfigureRequest{Routes: o.Routes}
	for _, i := range o.Interfaces {
		i = proto.CloneOf(i)
		i.AssignMac = ""
		network.Interfaces = append(network.Interfaces, i)
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(network)
	if err != nil {
		return nil, fmt.Errorf("encode the network of a template: %w", err)
	}
	return value, nil
}

// bootTemplate boots a machine until its agent is up and saves it. It returns
// how long the boot took.
func bootTemplate(ctx context.Context, c qemu.Config, blank vmm.MachineSpec, memory, state *os.File) (time.Duration, error) {
	for i := range blank.Disks {
		slot, err := emptySlot(blank.Disks[i].ReadOnly)
		if err != nil {
			return 0, err
		}
		defer slot.Close()
		blank.Disks[i].File = slot
	}
	taps, err := blankTaps(blank.NICs)
	defer closeFiles(taps)
	if err != nil {
		return 0, err
	}
	blank.Memory = &vmm.Memory{File: memory}
	begin := time.Now()
	m, err := qemu.Start(ctx, c, blank)
	if err != nil {
		return 0, err
	}
	defer m.Kill()
	if err := awaitAgent(ctx, m); err != nil {
		return 0, explainEnd(m, err)
	}
	took := time.Since(begin)
	return took, m.Save(ctx, state)
}

// emptySlot returns a file without a name for a disk of a template.
func emptySlot(readOnly bool) (*os.File, error) {
	fd, err := unix.MemfdCreate("slot", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make disk of template: %w", err)
	}
	f := os.NewFile(uintptr(fd), "slot")
	if err := f.Truncate(slotSize); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make disk of template: %w", err)
	}
	if !readOnly {
		return f, nil
	}
	defer f.Close()
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
}
