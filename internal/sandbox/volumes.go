package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/volume"
)

// volumes are what the containers of a sandbox may have in common.
type volumes struct {
	// names are those of entries of the share.
	names storage.Names

	mu       sync.Mutex
	follower *volume.Follower
	// last is the number of the latest of those below, by which it is called.
	last int
	// own are those that the guest has of its own.
	own map[volumeKey]*guestVolume
}

// volumeKey tells volumes apart: by their paths on the host, and where the guest
// needs one for each by how their owners are mapped.
type volumeKey struct {
	source string
	owners idmap.Map
}

// guestVolume is a volume that the guest has of its own. It is made when the
// first container needs it, and stays until the sandbox ends.
type guestVolume struct {
	name string
	// owners is how those that the host has were mapped when it was made.
	owners idmap.Map
	// make makes it in the guest, or finds that it is there.
	make func(context.Context) error
}

// guestVolumes takes those volumes out of a container's binds that the guest has
// of its own.
func (c *Container) guestVolumes(host, guest *specs.Spec, binds []specBind, wanted func(map[string]string) ([]string, error)) ([]specBind, error) {
	var follow []string
	if wanted != nil {
		var err error
		if follow, err = wanted(host.Annotations); err != nil {
			return nil, err
		}
	}
	kept := binds[:0]
	for _, b := range binds {
		m := &guest.Mounts[b.index]
		v, below, err := c.guestVolume(b.bind, slices.Contains(follow, m.Destination))
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		if v == nil {
			kept = append(kept, b)
			continue
		}
		m.Source = path.Join(oci.GuestVolumes, v.name, below)
		c.volumes = append(c.volumes, v)
	}
	for _, target := range follow {
		if !slices.ContainsFunc(guest.Mounts, func(m specs.Mount) bool { return m.Destination == target && m.Type == "bind" }) {
			slog.Warn("there is no mount to follow", "sandbox", c.sandbox.opts.ID, "container", c.ID, "target", target)
		}
	}
	return kept, nil
}

// guestVolume is the volume that the guest has in the place of a bind, and the
// directory in it, nil where the bind is an entry of the share.
func (c *Container) guestVolume(b storage.Bind, wanted bool) (v *guestVolume, below string, err error) {
	s := c.sandbox
	if wanted && !b.ReadOnly {
		return nil, "", fmt.Errorf("it is to be followed, but can be written to; a copy in the guest must be read-only: %w", errdefs.ErrInvalidArgument)
	}
	if c.role == oci.PodContainer {
		if v, err := s.direct(b.Source, b.Owners); v != nil || err != nil {
			return v, "", err
		}
		if m, top, ok := volume.MemoryOf(b.Source); ok {
			if m.PageSize > 0 && len(c.pages) == 0 {
				slog.Warn("container has a volume of huge pages and no limits of them, so none are reserved", "sandbox", s.opts.ID, "container", c.ID)
			}
			v, err := s.memoryVolume(m, top, b.Owners)
			return v, m.SubPath, err
		}
	}
	published := c.role == oci.PodContainer && s.opts.Follow.Bytes > 0 && b.ReadOnly && volume.KindOf(b.Source) == volume.Published
	if !wanted && !published {
		return nil, "", nil
	}
	v, err = s.followed(b.Source, b.Owners)
	if err != nil {
		// It is of use without events, too.
		slog.Warn("volume shows no events of the host's changes", "sandbox", s.opts.ID, "container", c.ID, "volume", b.Source, "error", err)
		return nil, "", nil
	}
	return v, "", nil
}

// makeVolumes makes a container's volumes in the guest.
func (c *Container) makeVolumes(ctx context.Context) error {
	for _, v := range c.volumes {
		if err := v.make(ctx); err != nil {
			return err
		}
	}
	return nil
}

// volume returns the volume of a path of the host, made by make when there is
// none yet.
func (s *Sandbox) volume(key volumeKey, make func(name string) (*guestVolume, error)) (*guestVolume, error) {
	s.volumes.mu.Lock()
	defer s.volumes.mu.Unlock()
	if v := s.volumes.own[key]; v != nil {
		return v, nil
	}
	s.volumes.last++
	v, err := make(strconv.Itoa(s.volumes.last))
	if err != nil {
		return nil, err
	}
	if s.volumes.own == nil {
		s.volumes.own = map[volumeKey]*guestVolume{}
	}
	s.volumes.own[key] = v
	return v, nil
}

// dropVolume forgets a volume that could not be made: the next container that
// names it begins anew.
func (s *Sandbox) dropVolume(key volumeKey, v *guestVolume) {
	s.volumes.mu.Lock()
	defer s.volumes.mu.Unlock()
	if s.volumes.own[key] == v {
		delete(s.volumes.own, key)
	}
}

// followed is the copy of a directory of the host.
func (s *Sandbox) followed(source string, owners idmap.Map) (*guestVolume, error) {
	return s.volume(volumeKey{source, owners}, func(name string) (*guestVolume, error) {
		if err := s.startFollower(); err != nil {
			return nil, err
		}
		v, err := s.volumes.follower.Follow(name, source, owners)
		if err != nil {
			return nil, err
		}
		return &guestVolume{name: name, make: func(ctx context.Context) error {
			if err := v.Sync(ctx); err != nil {
				return fmt.Errorf("copy %s into the guest: %w", source, err)
			}
			return nil
		}}, nil
	})
}

// startFollower must be called with the volumes' mu held.
func (s *Sandbox) startFollower() error {
	if s.volumes.follower != nil {
		return nil
	}
	if s.opts.Follow.Bytes == 0 {
		return fmt.Errorf("share.follow_mib is 0")
	}
	f, err := volume.NewFollower(s.opts.Follow, func(ctx context.Context, name string, changes []*agentapi.VolumeChange) error {
		_, err := s.client.VM.ChangeVolume(ctx, &agentapi.ChangeVolumeRequest{Name: name, Changes: changes})
		return err
	})
	if err != nil {
		return err
	}
	s.volumes.follower = f
	s.releases.push(func() { logError("end the watching of volumes", s.opts.ID, f.Close()) })
	return nil
}

// memoryVolume is a file system in the guest's memory in the place of one in
// the host's. It is one for all containers: the kernel of the guest cannot show it
// to each under other owners.
func (s *Sandbox) memoryVolume(m volume.Memory, source string, owners idmap.Map) (*guestVolume, error) {
	m.UID, m.GID = owners.Owner(m.UID, m.GID)
	v, _ := s.volume(volumeKey{source: source}, func(name string) (*guestVolume, error) {
		own := &memoryVolume{sandbox: s, name: name}
		return &guestVolume{name: name, owners: owners, make: own.mount(m)}, nil
	})
	if v.owners != owners {
		return nil, fmt.Errorf("it is memory of the guest, which another container has with other owners (%s): %w", v.owners, errdefs.ErrNotImplemented)
	}
	if m.SubPath == "" {
		return v, nil
	}
	inner := *v
	inner.make = func(ctx context.Context) error {
		if err := v.make(ctx); err != nil {
			return err
		}
		return s.changeVolume(ctx, v.name, m.Directories(source, owners))
	}
	return &inner, nil
}

// memoryVolume is mounted once.
type memoryVolume struct {
	sandbox *Sandbox
	name    string
	mu      sync.Mutex
	made    bool
}

func (v *memoryVolume) mount(m volume.Memory) func(context.Context) error {
	return func(ctx context.Context) error {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.made {
			return nil
		}
		s := v.sandbox
		if err := s.volumePlace(ctx, v.name); err != nil {
			return err
		}
		mount := m.Mount(path.Join(oci.GuestVolumes, v.name), uint64(s.opts.Sizing.Max.MemoryMiB)<<20)
		if _, err := s.client.VM.Mount(ctx, &agentapi.MountRequest{Mounts: []*agentapi.Mount{mount}}); err != nil {
			return fmt.Errorf("make a volume of memory in the guest: %w", err)
		}
		v.made = true
		return nil
	}
}

// volumePlace makes the directory that a volume is mounted on. It comes first: the
// file system that it is in may not be there yet.
func (s *Sandbox) volumePlace(ctx context.Context, name string) error {
	return s.changeVolume(ctx, name, []*agentapi.VolumeChange{{Path: ".", Kind: agentapi.VolumeChange_KIND_DIRECTORY, Mode: 0o700}})
}

func (s *Sandbox) changeVolume(ctx context.Context, name string, changes []*agentapi.VolumeChange) error {
	if _, err := s.client.VM.ChangeVolume(ctx, &agentapi.ChangeVolumeRequest{Name: name, Changes: changes}); err != nil {
		return fmt.Errorf("make a volume in the guest: %w", err)
	}
	return nil
}
