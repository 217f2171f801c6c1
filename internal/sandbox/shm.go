package sandbox

import (
	"context"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	agentapi "dougong.dev/dougong/api/agent/v1"
)

// sharedMemory are the guest's file systems for /dev/shm of containers. The
// host has one for each, which containers may share: its files would be cached
// once for each of them in the guest, and what one maps another would not see.
type sharedMemory struct {
	// made has them by the paths of the host's.
	made map[string]*shm
	// count is how many there were, for their names.
	count int
}

type shm struct {
	path string
	// users are the containers that have it.
	users map[string]bool
}

// shmWish is a file system that a container has for its /dev/shm.
type shmWish struct {
	// source is the host's, mount the index among the mounts of the spec.
	source string
	mount  int
	// size is in bytes.
	size uint64
}

// podShm begins the paths of the guest's file systems for shared memory.
const podShm = "/run/dougong/shm"

// defaultShm is its size where the host's cannot be told, in bytes.
const defaultShm = 64 << 20

// takeShm takes /dev/shm out of a container's binds where it is memory on the
// host, and notes that it is to be the guest's.
func (c *Container) takeShm(guest *specs.Spec, binds []specBind) []specBind {
	kept := binds[:0]
	for _, b := range binds {
		size, ok := tmpfsSize(b.bind.Source)
		if b.bind.Source == "/dev/shm" {
			// Never the host's own: the pod has none there, and its size is the usual one.
			size, ok = defaultShm, true
		}
		if guest.Mounts[b.index].Destination != "/dev/shm" || !ok {
			kept = append(kept, b)
			continue
		}
		c.shm = &shmWish{source: b.bind.Source, mount: b.index, size: size}
	}
	return kept
}

// tmpfsSize is the size in bytes of a file system of memory, false where it is
// something else.
func tmpfsSize(path string) (uint64, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		return 0, false
	}
	if st.Blocks == 0 {
		return defaultShm, true
	}
	return st.Blocks * uint64(st.Bsize), true
}

// mountShm gives a container its shared memory, which others may have already.
func (c *Container) mountShm(ctx context.Context, guest *specs.Spec) error {
	s, wish := c.sandbox, c.shm
	if wish == nil {
		return nil
	}
	s.shm.Lock()
	defer s.shm.Unlock()
	if m := s.memory.made[wish.source]; m != nil {
		m.users[c.ID] = true
		guest.Mounts[wish.mount].Source = m.path
		return nil
	}
	m := &shm{path: podShm, users: map[string]bool{c.ID: true}}
	if s.memory.count > 0 {
		m.path = fmt.Sprintf("%s-%d", podShm, s.memory.count)
	}
	_, err := s.client.VM.Mount(ctx, &agentapi.MountRequest{Mounts: []*agentapi.Mount{{
		Type: "tmpfs", Source: "shm", Target: m.path,
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", wish.size)},
	}}})
	if err != nil {
		return fmt.Errorf("make shared memory in the guest: %w", err)
	}
	if s.memory.made == nil {
		s.memory.made = make(map[string]*shm)
	}
	s.memory.made[wish.source] = m
	s.memory.count++
	guest.Mounts[wish.mount].Source = m.path
	return nil
}

// dropShm lets go of a container's shared memory, which goes with the last that
// has it. A pod's stays, as it is the pod's own.
func (c *Container) dropShm(ctx context.Context) {
	s := c.sandbox
	if c.shm == nil || s.pod != nil {
		return
	}
	s.shm.Lock()
	defer s.shm.Unlock()
	m := s.memory.made[c.shm.source]
	if m == nil {
		return
	}
	delete(m.users, c.ID)
	if len(m.users) > 0 {
		return
	}
	delete(s.memory.made, c.shm.source)
	_, err := s.client.VM.Unmount(ctx, &agentapi.UnmountRequest{Targets: []string{m.path}})
	logError("take shared memory away in the guest", s.opts.ID, err)
}
