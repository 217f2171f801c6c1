package sandbox

import (
	"context"
	"os"
	"slices"

	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/volume"
)

// nameBind gives a bind of a pod's container the name that other containers have
// for the same.
func (c *Container) nameBind(b storage.Bind) storage.Bind {
	if c.role != oci.PodContainer && !c.sandbox.opts.Joins {
		return b
	}
	if volume.KindOf(b.Source) == volume.Empty {
		// It is the pod's own: to protect it from some of the pod's containers is
		// up to the guest, and all of them have the same in this way.
		b.ReadOnly, b.ReadOnlyBelow = false, false
	}
	b.Name = c.sandbox.volumes.names.Take(b)
	c.names = append(c.names, b.Name)
	if info, err := os.Stat(b.Source); err == nil && info.IsDir() {
		c.commonDirs = append(c.commonDirs, b.Name)
	}
	return b
}

// commonEntries are the guest's paths of directories that other containers may
// have, too. Each is a file system of its own, and the containers have the same
// one if it is mounted before any of them looks.
func (c *Container) commonEntries() []string {
	var paths []string
	for _, e := range c.plan.Entries {
		if slices.Contains(c.commonDirs, e.Name) {
			paths = append(paths, e.SharedPath())
		}
	}
	return paths
}

// leaveShare returns the entries of the share that are there for this container
// alone. From then on no other container can come to have them.
func (c *Container) leaveShare() []storage.Entry {
	c.giving.Do(func() {
		var others []string
		for _, name := range c.names {
			if !c.sandbox.volumes.names.Give(name) {
				others = append(others, name)
			}
		}
		if c.plan == nil {
			return
		}
		for _, e := range c.plan.Entries {
			if !slices.Contains(others, e.Name) {
				c.gone = append(c.gone, e)
			}
		}
	})
	return c.gone
}

// attach makes what a later container is made of visible to the VM, which runs
// already. It returns what takes it away again.
func (s *Sandbox) attach(ctx context.Context, c *Container, view *storage.View) (*releases, error) {
	if err := s.life.expect(Running, "add a container to"); err != nil {
		return nil, s.lostOr(err)
	}
	attached := &releases{}
	err := s.attachEntries(attached, c, view)
	if err == nil {
		err = s.attachDisks(ctx, attached, c.plan.Disks)
	}
	if err != nil {
		attached.unwind()
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lasting = s.lasting || c.plan.Lasting()
	return attached, nil
}

func (s *Sandbox) attachEntries(attached *releases, c *Container, view *storage.View) error {
	attached.push(func() {
		for _, e := range slices.Backward(c.leaveShare()) {
			logError("take out of the share", s.opts.ID, s.tree.Remove(e))
		}
	})
	for _, e := range c.plan.Entries {
		if err := s.tree.AddFrom(view, e); err != nil {
			return err
		}
	}
	return nil
}
