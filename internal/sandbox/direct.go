package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/volume"
)

// directVolume is a file system of the host that the guest mounts from a disk.
type directVolume struct {
	volume.Direct
	sandbox *Sandbox
	name    string
	mu      sync.Mutex
	made    bool
}

// direct is the volume that is written down for a directory, nil without one.
func (s *Sandbox) direct(source string, owners idmap.Map) (*guestVolume, error) {
	if s.opts.DirectDir == "" {
		return nil, nil
	}
	d, ok, err := volume.FindDirect(s.opts.DirectDir, source)
	if !ok || err != nil {
		return nil, err
	}
	key := volumeKey{source: source}
	v, err := s.volume(key, func(name string) (*guestVolume, error) {
		direct := &directVolume{Direct: d, sandbox: s, name: name}
		v := &guestVolume{name: name}
		v.make = func(ctx context.Context) error {
			err := direct.make(ctx)
			if err != nil {
				s.dropVolume(key, v)
			}
			return err
		}
		return v, nil
	})
	if err != nil || owners.IsZero() {
		return v, err
	}
	return s.shownAs(source, v, owners)
}

// make plugs the disk in, where it stays until the sandbox ends, and has the
// guest mount it.
func (v *directVolume) make(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.made {
		return nil
	}
	s := v.sandbox
	if err := s.volumePlace(ctx, v.name); err != nil {
		return err
	}
	number, _ := strconv.Atoi(v.name)
	disk := storage.Disk{Serial: storage.Serial(s.opts.ID+"/volumes", number), Path: v.Source, ReadOnly: v.ReadOnly}
	attached := &releases{}
	err := s.lockSource(attached, v.Direct)
	var set *qemu.DiskSet
	if err == nil {
		set, err = s.attachSet(ctx, attached, disk)
	}
	if err == nil {
		err = v.mount(ctx, disk.Serial)
	}
	if err == nil {
		err = v.serve(attached, set)
	}
	if err != nil {
		attached.unwind()
		return fmt.Errorf("volume %s: %w", v.Path, err)
	}
	s.releases.push(attached.unwind)
	s.mu.Lock()
	s.lasting = s.lasting || !v.ReadOnly
	s.mu.Unlock()
	v.made = true
	return nil
}

func (v *directVolume) mount(ctx context.Context, serial string) error {
	mount := &agentapi.Mount{
		Type: v.FSType, Source: "serial:" + serial, Target: path.Join(oci.GuestVolumes, v.name), Options: append([]string{"nodev"}, v.Options...), Group: v.FSGroup,
	}
	if v.ReadOnly {
		mount.Options, mount.Group = append(mount.Options, "ro"), 0
	}
	if _, err := v.sandbox.client.VM.Mount(ctx, &agentapi.MountRequest{Mounts: []*agentapi.Mount{mount}}); err != nil {
		return fmt.Errorf("mount it in the guest: %w", err)
	}
	return nil
}

// lockSource keeps others from mounting what would not survive it: a file
// system that one mounts to write is nobody else's.
func (s *Sandbox) lockSource(attached *releases, d volume.Direct) error {
	f, err := os.Open(d.Source)
	if err != nil {
		return err
	}
	how := unix.LOCK_EX
	if d.ReadOnly {
		how = unix.LOCK_SH
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%s is in use by another sandbox: %w", d.Source, errdefs.ErrFailedPrecondition)
		}
		return fmt.Errorf("lock %s: %w", d.Source, err)
	}
	attached.push(func() { _ = f.Close() })
	return nil
}

func (s *Sandbox) attachSet(ctx context.Context, attached *releases, disk storage.Disk) (*qemu.DiskSet, error) {
	disks, err := openDisks([]storage.Disk{disk})
	if err != nil {
		return nil, err
	}
	defer closeDisks(disks)
	set, err := s.machine.AttachDisks(ctx, disks)
	if err != nil {
		return nil, err
	}
	attached.push(func() { s.detachDisks(set) })
	return set, nil
}

// serve answers those who ask about the volume.
func (v *directVolume) serve(attached *releases, set *qemu.DiskSet) error {
	s := v.sandbox
	stop, err := volume.Serve(s.opts.DirectDir, v.Path, volume.Served{
		Stats: func(ctx context.Context) (volume.Stats, error) {
			r, err := s.client.VM.VolumeStats(ctx, &agentapi.VolumeStatsRequest{Name: v.name})
			if err != nil {
				return volume.Stats{}, err
			}
			return volume.Stats{Capacity: r.Capacity, Used: r.Used, Available: r.Available, Inodes: r.Inodes, InodesUsed: r.InodesUsed}, nil
		},
		Grow: func(ctx context.Context) error { return v.grow(ctx, set) },
	})
	if err != nil {
		return err
	}
	attached.push(stop)
	return nil
}

// grow makes the disk as large as its source has become, and the file system
// with it.
func (v *directVolume) grow(ctx context.Context, set *qemu.DiskSet) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ReadOnly {
		return fmt.Errorf("it is read-only: %w", errdefs.ErrFailedPrecondition)
	}
	f, err := os.Open(v.Source)
	if err != nil {
		return err
	}
	defer f.Close()
	// Of a device, too, this is the size.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := v.sandbox.machine.ResizeDisks(ctx, set, size); err != nil {
		return err
	}
	_, err = v.sandbox.client.VM.GrowVolume(ctx, &agentapi.GrowVolumeRequest{Name: v.name, Size: uint64(size)})
	return err
}
