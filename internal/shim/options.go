package shim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/guestimage"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/sandbox"
	"dougong.dev/dougong/internal/sizing"
	"dougong.dev/dougong/internal/virtiofsd"
	"dougong.dev/dougong/internal/vmm"
	"dougong.dev/dougong/internal/volume"
)

// Figures of a sandbox that no caller has a say in.
const (
	// uidCount is how many user ids VMMs are spread over.
	uidCount = 1 << 20
	// slowFactor is how much longer a guest may take without KVM.
	slowFactor = 4
	// drainTimeout is how long output that nobody reads holds up an exit.
	drainTimeout = 10 * time.Second
	// followEntries is how many files and directories a volume may have that the
	// guest gets a copy of.
	followEntries = 1024
)

// Options puts a sandbox's options together from the configuration and the
// annotations of its first container's bundle.
func Options(cfg config.Config, id, dir, bundle string) (sandbox.Options, error) {
	spec, err := readAnnotated(bundle)
	if err != nil {
		return sandbox.Options{}, err
	}
	cfg, annotations, err := cfg.FromKata(spec.Annotations)
	if err != nil {
		return sandbox.Options{}, err
	}
	over, err := config.ParseAnnotations(annotations)
	if err != nil {
		return sandbox.Options{}, err
	}
	pod, err := sizing.OfPod(spec.Annotations)
	if err != nil {
		return sandbox.Options{}, err
	}
	rule := sizingRule(cfg.VM, hostRoom())
	over = fit(over, rule, spec, pod)
	place, err := cgroupPlace(cfg.Cgroup, id, spec)
	if err != nil {
		return sandbox.Options{}, err
	}
	machine, err := machineSpec(cfg, id, over)
	if err != nil {
		return sandbox.Options{}, err
	}
	opts := sandbox.Options{
		ID: id, Hostname: cmp.Or(spec.Hostname, id[:min(12, len(id))]), Dir: dir,
		QEMU:         qemuConfig(cfg, id),
		Machine:      machine,
		Share:        virtiofsd.Config{Binary: cfg.Share.Virtiofsd, Cache: cfg.Share.Cache},
		Follow:       volume.Limits{Bytes: int64(cfg.Share.FollowMiB) << 20, Entries: followEntries},
		DirectDir:    volume.DirectDir(cfg.Runtime.State),
		WritableSize: cfg.Storage.WritableSize,
		Cgroup:       place,
		Sizing:       growing(machine),
		Overhead:     sizing.Overhead{MilliCPUs: int64(cfg.Cgroup.OverheadMillicpus), MemoryMiB: cfg.Cgroup.OverheadMemoryMiB},
		Pod:          pod,
		BootTimeout:  guestTime(cfg.VM.BootTimeout, machine),
		StopTimeout:  guestTime(cfg.VM.StopTimeout, machine),
		DrainTimeout: drainTimeout,

		CopyTemplates: !cfg.Template.ShareMemory,
		WarmTemplates: cfg.Template.KeepVMM,

		HealthTimeout: guestTime(cfg.VM.HealthTimeout, machine),
	}
	if wantsClone(cfg, over) {
		if opts.Templates, err = Templates(cfg); err != nil {
			return sandbox.Options{}, err
		}
		if cfg.Pool.Size > 0 {
			opts.Pool = Pool(cfg)
		}
	}
	return opts, addNetwork(&opts, cmp.Or(over.Network, cfg.Network.Mode), over, spec)
}

// guestTime is a time that depends on how fast the guest runs.
func guestTime(limit config.Duration, machine vmm.MachineSpec) time.Duration {
	if machine.Accelerator == vmm.KVM {
		return time.Duration(limit)
	}
	return slowFactor * time.Duration(limit)
}

// wantsClone says whether a sandbox starts from a template.
func wantsClone(cfg config.Config, over config.Overrides) bool {
	if over.Template != nil {
		return *over.Template
	}
	return cfg.Template.Enabled
}

// readAnnotated reads the parts of a bundle's spec that shape the sandbox.
func readAnnotated(bundle string) (*specs.Spec, error) {
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("read OCI spec: %w", err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(data, spec); err != nil {
		return nil, fmt.Errorf("read OCI spec: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return spec, nil
}

// guestDir is where guest images are.
func guestDir(cfg config.Config) string { return filepath.Join(cfg.Storage.Root, "guest") }

// machineSpec is the VM without disks and network.
func machineSpec(cfg config.Config, id string, over config.Overrides) (vmm.MachineSpec, error) {
	accelerator, _, err := qemu.DetectAccelerator(vmm.Accelerator(cfg.VM.Accelerator))
	if err != nil {
		return vmm.MachineSpec{}, err
	}
	kernel, initrd := cfg.VM.Kernel, cfg.VM.Initrd
	if kernel == "" || initrd == "" {
		image, err := guestimage.Current(guestDir(cfg))
		if err != nil {
			return vmm.MachineSpec{}, err
		}
		kernel, initrd = cmp.Or(kernel, image.Kernel), cmp.Or(initrd, image.Initrd)
	}
	machine := withRoom(cfg.VM, hostRoom(), vmm.MachineSpec{
		Name:        id,
		Accelerator: accelerator,
		CPUs:        cmp.Or(over.CPUs, cfg.VM.CPUs),
		MemoryMiB:   cmp.Or(over.MemoryMiB, cfg.VM.MemoryMiB),
		Kernel:      kernel, Initrd: initrd,
	})
	line := guestimage.CmdlineOptions{Emulated: accelerator != vmm.KVM, Extra: cfg.VM.KernelParameters}
	if machine.MaxCPUs > machine.CPUs {
		line.CPUs = machine.CPUs
	}
	machine.Cmdline = guestimage.Cmdline(line)
	return machine, nil
}

// qemuConfig gives each sandbox's VMM a user of its own. Two sandboxes may by
// chance have the same; they then are as separate as two processes of a user
// that can neither trace each other nor see each other's files.
func qemuConfig(cfg config.Config, id string) qemu.Config {
	c := qemu.Config{Binary: cfg.VM.QEMU}
	if cfg.Runtime.LogLevel <= slog.LevelDebug {
		// Our log is on standard error too.
		c.Console = os.Stderr
	}
	if cfg.VM.UIDBase == 0 {
		return c
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	uid := uint32(cfg.VM.UIDBase) + h.Sum32()%uidCount
	c.UID, c.GID = uid, uid
	return c
}
