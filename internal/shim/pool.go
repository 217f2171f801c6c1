package shim

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/pool"
	"dougong.dev/dougong/internal/pool/keeper"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/sandbox"
	"dougong.dev/dougong/internal/template"
	"dougong.dev/dougong/internal/version"
	"dougong.dev/dougong/internal/virtiofsd"
	"dougong.dev/dougong/internal/vmm"
)

// Pool asks the keeper of the configuration's pool, whether it is to have any
// machines or not.
func Pool(cfg config.Config) *pool.Client {
	return &pool.Client{
		State: cfg.Runtime.State,
		// What a machine is made of beside its kind.
		Scope:  template.Key(version.String(), cfg.Storage.Root, cfg.VM.QEMU, fmt.Sprint(cfg.VM.UIDBase)),
		Limits: poolLimits(cfg),
	}
}

func poolLimits(cfg config.Config) pool.Limits {
	return pool.Limits{Size: cfg.Pool.Size, MemoryMiB: cfg.Pool.MemoryMiB, Idle: time.Duration(cfg.Pool.Idle)}
}

// StartKeeper starts a keeper for the pool, if there is to be one and is none.
// The shim is the program, and its configuration the file at configPath.
func StartKeeper(cfg config.Config, shim, configPath string) error {
	if cfg.Pool.Size == 0 {
		return nil
	}
	return Pool(cfg).Ensure(shim, "-keep-pool", "-config", configPath)
}

// KeepPool is a keeper's process: it keeps the configuration's pool until it is
// told to end, or nobody needs the pool any more. Where there is another keeper
// it ends at once.
func KeepPool(ctx context.Context, cfg config.Config) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	accelerator, _, err := qemu.DetectAccelerator(vmm.Accelerator(cfg.VM.Accelerator))
	if err != nil {
		return err
	}
	store, err := Templates(cfg)
	if err != nil {
		return err
	}
	place, err := pool.Take(cfg.Runtime.State, cgroup.Clear)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := ownCgroup(cfg, place); err != nil {
		place.Leave()
		return err
	}
	k := keeper.Keeper[*qemu.Machine]{Scope: Pool(cfg).Scope, Limits: poolLimits(cfg)}
	k.Make = func(ctx context.Context, id string, kind pool.Kind) (*qemu.Machine, error) {
		return sandbox.Warm(ctx, sandbox.Options{
			ID: id, QEMU: qemuConfig(cfg, id), Templates: store, WarmTemplates: cfg.Template.KeepVMM, Dir: pool.Dir(cfg.Runtime.State),
			Share:        virtiofsd.Config{Binary: cfg.Share.Virtiofsd, Cache: cfg.Share.Cache},
			WritableSize: cfg.Storage.WritableSize,
			BootTimeout:  guestTime(cfg.VM.BootTimeout, vmm.MachineSpec{Accelerator: accelerator}),
		}, kind)
	}
	return k.Run(ctx, place)
}

// ownCgroup moves this process into a cgroup of the pool's own: whoever has
// started it may want to remove the cgroup in which that was.
func ownCgroup(cfg config.Config, place *pool.Place) error {
	parent := cmp.Or(cfg.Cgroup.Parent, config.Default().Cgroup.Parent)
	// No sandbox's id begins with a dot.
	where, err := cgroup.Parse("", parent, fmt.Sprintf(".pool-%d", os.Getpid()))
	if err != nil {
		return err
	}
	group, err := cgroup.Join(where, pool.Dir(cfg.Runtime.State))
	if err != nil {
		return err
	}
	place.Leaving = func() {
		if err := group.Leave(); err != nil {
			slog.Error("leave the pool's cgroup", "error", err)
		}
	}
	return group.Forsake()
}

// PoolKind is the kind of the machine that a container of one image is started
// in under these overrides.
func PoolKind(cfg config.Config, over config.Overrides) (pool.Kind, error) {
	const id = "pool"
	machine, err := machineSpec(cfg, id, over)
	if err != nil {
		return pool.Kind{}, err
	}
	opts := sandbox.Options{Machine: machine, QEMU: qemuConfig(cfg, id), CopyTemplates: !cfg.Template.ShareMemory, WarmTemplates: cfg.Template.KeepVMM}
	if err := addNetwork(&opts, cmp.Or(over.Network, cfg.Network.Mode), config.Overrides{}, &specs.Spec{}); err != nil {
		return pool.Kind{}, err
	}
	// An image is one disk.
	opts.Machine.Disks = []vmm.Disk{{ReadOnly: true}}
	kind, _, err := sandbox.Kind(opts, opts.Machine)
	return kind, err
}
