package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	api "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/guest/cpu"
	"dougong.dev/dougong/internal/guest/holder"
	"dougong.dev/dougong/internal/guest/hugepage"
	"dougong.dev/dougong/internal/guest/identity"
	"dougong.dev/dougong/internal/guest/mount"
	"dougong.dev/dougong/internal/guest/netif"
	"dougong.dev/dougong/internal/oci"
)

// shutdownTimeout is what containers get to die when the machine goes down.
const shutdownTimeout = 5 * time.Second

// service implements the Agent service.
type service struct {
	parts
	holder holder.Holder
	// stopping is called right before stopped is closed.
	stopping func()
	stopped  chan struct{}

	networking sync.Mutex
	// plan is what the network was last made of.
	plan netif.Plan

	mu sync.Mutex
	// mounted are the targets of Mount, the latest last.
	mounted []string
	down    bool
}

var _ api.AgentService = (*service)(nil)

func newService(p parts, stopping func()) *service {
	return &service{
		parts: p, holder: holder.Holder{Binary: oci.InitSource},
		stopping: stopping, stopped: make(chan struct{}),
	}
}

// Configure gives the machine its identity.
func (s *service) Configure(ctx context.Context, r *api.ConfigureRequest) (*api.ConfigureResponse, error) {
	// Entropy comes first: from here on nothing may be what a twin has too.
	if len(r.Entropy) > 0 {
		if err := identity.Seed(r.Entropy); err != nil {
			return nil, err
		}
	}
	// A kernel that cannot do that runs containers all the same.
	if err := identity.ScatterPIDs("/proc"); err != nil {
		slog.Info("configure", "error", err)
	}
	if r.TimeUnixNano != 0 {
		if err := identity.SetClock(time.Unix(0, r.TimeUnixNano)); err != nil {
			return nil, err
		}
	}
	if r.Hostname != "" {
		if err := identity.SetHostname(r.Hostname); err != nil {
			return nil, err
		}
	}
	if err := s.configureNetwork(ctx, r); err != nil {
		return nil, err
	}
	if err := identity.SetSysctls("/proc/sys", r.Sysctls); err != nil {
		return nil, err
	}
	return &api.ConfigureResponse{}, nil
}

// Mount mounts file systems of the sandbox.
func (s *service) Mount(ctx context.Context, r *api.MountRequest) (*api.MountResponse, error) {
	if err := s.mounter.All(ctx, r.Mounts); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range r.Mounts {
		s.mounted = append(s.mounted, m.Target)
	}
	return &api.MountResponse{}, nil
}

// Unmount undoes Mount.
func (s *service) Unmount(_ context.Context, r *api.UnmountRequest) (*api.UnmountResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, target := range r.Targets {
		if err := s.unmount(target); err != nil {
			return nil, err
		}
	}
	return &api.UnmountResponse{}, nil
}

// unmount must be called with mu held.
func (s *service) unmount(target string) error {
	if err := mount.Unmount(target); err != nil {
		return err
	}
	for i, m := range slices.Backward(s.mounted) {
		if m == target {
			s.mounted = slices.Delete(s.mounted, i, i+1)
			break
		}
	}
	return nil
}

// CreateBundle makes a container's bundle.
func (s *service) CreateBundle(ctx context.Context, r *api.CreateBundleRequest) (*api.CreateBundleResponse, error) {
	path, err := s.bundles.Create(ctx, r)
	if err != nil {
		return nil, err
	}
	return &api.CreateBundleResponse{Bundle: path}, nil
}

// DeleteBundle removes a container's bundle.
func (s *service) DeleteBundle(_ context.Context, r *api.DeleteBundleRequest) (*api.DeleteBundleResponse, error) {
	if err := s.bundles.Delete(r.Id); err != nil {
		return nil, err
	}
	for _, path := range r.Shared {
		// What lies on another file system of the host is a mount of its own
		// here, made when it was first looked at, if it ever was.
		if err := mount.Unmount(path); err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
	}
	return &api.DeleteBundleResponse{}, nil
}

// HoldNamespaces keeps namespaces for the containers of a pod.
func (s *service) HoldNamespaces(_ context.Context, r *api.HoldNamespacesRequest) (*api.HoldNamespacesResponse, error) {
	pid, err := s.holder.Hold(r)
	if err != nil {
		return nil, err
	}
	return &api.HoldNamespacesResponse{Pid: uint32(pid)}, nil
}

// WaitOOM waits for the next process that is killed for want of memory.
func (s *service) WaitOOM(ctx context.Context, r *api.WaitOOMRequest) (*api.WaitOOMResponse, error) {
	count, ended, err := s.tasks.WaitOOM(ctx, r.Id, r.Seen)
	if err != nil {
		return nil, err
	}
	return &api.WaitOOMResponse{Count: count, Ended: ended}, nil
}

// arrivalTimeout is what CPUs that were plugged in get to be found.
const arrivalTimeout = 30 * time.Second

// UseCPUs says how many of the machine's CPUs are used.
func (s *service) UseCPUs(ctx context.Context, r *api.UseCPUsRequest) (*api.UseCPUsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, arrivalTimeout)
	defer cancel()
	if err := cpu.Use(ctx, s.devices, "/sys", r.Count); err != nil {
		return nil, err
	}
	return &api.UseCPUsResponse{}, nil
}

// ReserveHugePages keeps memory for huge pages.
func (s *service) ReserveHugePages(_ context.Context, r *api.ReserveHugePagesRequest) (*api.ReserveHugePagesResponse, error) {
	if err := hugepage.Reserve("/sys/kernel/mm/hugepages", r.Pages); err != nil {
		return nil, err
	}
	return &api.ReserveHugePagesResponse{}, nil
}

// ChangeVolume changes what is in a volume.
func (s *service) ChangeVolume(_ context.Context, r *api.ChangeVolumeRequest) (*api.ChangeVolumeResponse, error) {
	if err := s.volumes.Change(r); err != nil {
		return nil, err
	}
	return &api.ChangeVolumeResponse{}, nil
}

// VolumeStats tells how full a volume is.
func (s *service) VolumeStats(_ context.Context, r *api.VolumeStatsRequest) (*api.VolumeStatsResponse, error) {
	return s.volumes.Stats(r.Name)
}

// growTimeout is what a disk gets to show its new size.
const growTimeout = 30 * time.Second

// GrowVolume grows the file system of a volume with its disk.
func (s *service) GrowVolume(ctx context.Context, r *api.GrowVolumeRequest) (*api.GrowVolumeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, growTimeout)
	defer cancel()
	if err := s.volumes.Grow(ctx, r.Name, r.Size, s.devices); err != nil {
		return nil, err
	}
	return &api.GrowVolumeResponse{}, nil
}

// Info tells figures of the machine.
func (s *service) Info(context.Context, *api.InfoRequest) (*api.InfoResponse, error) {
	return info(s.version, "/proc", "/sys")
}

// Shutdown ends everything in the order in which it stands on each other. It
// goes on after an error: the power goes anyway.
func (s *service) Shutdown(ctx context.Context, _ *api.ShutdownRequest) (*api.ShutdownResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return &api.ShutdownResponse{}, nil
	}
	s.down = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	s.tasks.KillAll(ctx)
	err := s.bundles.Clear()
	for len(s.mounted) > 0 {
		last := s.mounted[len(s.mounted)-1]
		if uerr := s.unmount(last); uerr != nil {
			err = errors.Join(err, uerr)
			s.mounted = s.mounted[:len(s.mounted)-1]
		}
	}
	err = errors.Join(err, s.volumes.Close())
	unix.Sync()
	s.stopping()
	close(s.stopped)
	if err != nil {
		slog.Warn("shutdown", "error", err)
		return nil, fmt.Errorf("shutdown: %w", err)
	}
	return &api.ShutdownResponse{}, nil
}
