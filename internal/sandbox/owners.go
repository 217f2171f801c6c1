package sandbox

import (
	"context"
	"fmt"
	"path"
	"sync"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/storage"
)

// shownVolume is a volume of the guest once more, under other owners.
type shownVolume struct {
	sandbox *Sandbox
	name    string
	of      *guestVolume
	owners  idmap.Map
	mu      sync.Mutex
	made    bool
}

// shownAs is a volume that the guest has mounted, with the owners of its files
// mapped: the guest mounts it once more for that.
func (s *Sandbox) shownAs(source string, of *guestVolume, owners idmap.Map) (*guestVolume, error) {
	key := volumeKey{source, owners}
	return s.volume(key, func(name string) (*guestVolume, error) {
		shown := &shownVolume{sandbox: s, name: name, of: of, owners: owners}
		v := &guestVolume{name: name, owners: owners}
		v.make = func(ctx context.Context) error {
			err := shown.make(ctx)
			if err != nil {
				s.dropVolume(key, v)
			}
			return err
		}
		return v, nil
	})
}

func (v *shownVolume) make(ctx context.Context) error {
	if err := v.of.make(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.made {
		return nil
	}
	if err := v.sandbox.volumePlace(ctx, v.name); err != nil {
		return err
	}
	mount := &agentapi.Mount{Type: "bind", Source: path.Join(oci.GuestVolumes, v.of.name), Target: path.Join(oci.GuestVolumes, v.name)}
	mount.Uids, mount.Gids = storage.OwnerMessages(v.owners)
	if _, err := v.sandbox.client.VM.Mount(ctx, &agentapi.MountRequest{Mounts: []*agentapi.Mount{mount}}); err != nil {
		return fmt.Errorf("show a volume under other owners in the guest: %w", err)
	}
	v.made = true
	return nil
}
