package shim

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/guestimage"
	"dougong.dev/dougong/internal/sandbox"
	"dougong.dev/dougong/internal/template"
	"dougong.dev/dougong/internal/vmm"
)

// Templates opens the store of saved machines. Installations share no
// templates, even if they keep them in the same memory.
func Templates(cfg config.Config) (*template.Store, error) {
	store, err := template.Open(filepath.Join(cfg.Storage.Root, "templates"))
	if err != nil {
		return nil, err
	}
	if cfg.VM.Kernel == "" || cfg.VM.Initrd == "" {
		// It leads to another image when one is built.
		store.DependOn(guestimage.CurrentLink(guestDir(cfg)))
	}
	store.KeepInMemory(filepath.Join(cfg.Template.MemoryDir, template.Key(cfg.Storage.Root)), int64(cfg.Template.MemoryMiB)<<20)
	return store, nil
}

// MakeTemplate returns the template from which a container of one image is
// started under these overrides, and makes it when there is none.
func MakeTemplate(ctx context.Context, cfg config.Config, over config.Overrides) (*template.Template, error) {
	const id = "template"
	store, err := Templates(cfg)
	if err != nil {
		return nil, err
	}
	machine, err := machineSpec(cfg, id, over)
	if err != nil {
		return nil, err
	}
	opts := sandbox.Options{Machine: machine, QEMU: qemuConfig(cfg, id), Templates: store, WarmTemplates: cfg.Template.KeepVMM, WritableSize: cfg.Storage.WritableSize}
	if err := addNetwork(&opts, cmp.Or(over.Network, cfg.Network.Mode), config.Overrides{}, &specs.Spec{}); err != nil {
		return nil, err
	}
	// An image is one disk.
	opts.Machine.Disks = []vmm.Disk{{ReadOnly: true}}
	limit := guestTime(cfg.VM.BootTimeout, machine)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the guest did not answer within %v (vm.boot_timeout)", limit))
	defer cancel()
	return sandbox.Template(ctx, opts, opts.Machine)
}
