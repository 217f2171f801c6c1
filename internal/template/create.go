package template

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Recipe makes a template.
type Recipe struct {
	Key, Description string
	// MemorySize is the guest's memory in bytes.
	MemorySize int64
	// Boot boots a machine on this memory, waits until it is up, and saves it.
	Boot func(ctx context.Context, memory, state *os.File) error
}

// GetOrCreate returns the template of a recipe and makes it when there is
// none. Of several that want the same one, one makes it and the others wait.
func (s *Store) GetOrCreate(ctx context.Context, r Recipe) (*Template, error) {
	if t, err := s.Get(r.Key); !errdefs.IsNotFound(err) {
		return t, err
	}
	unlock, err := s.lockKey(ctx, r.Key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if t, err := s.Get(r.Key); !errdefs.IsNotFound(err) {
		return t, err
	}
	if err := s.create(ctx, r); err != nil {
		return nil, fmt.Errorf("make template: %w", err)
	}
	s.prune()
	return s.Get(r.Key)
}

// create boots and saves a machine beside its place and moves it there.
func (s *Store) create(ctx context.Context, r Recipe) error {
	if err := s.checkRoom(r.MemorySize); err != nil {
		return err
	}
	staging, err := s.holdNew()
	if err != nil {
		return err
	}
	defer staging.remove()
	memory, err := newMemory(r.MemorySize)
	if err != nil {
		return err
	}
	defer memory.Close()
	state, err := os.OpenFile(filepath.Join(staging.path, fileState), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer state.Close()
	if err := r.Boot(ctx, memory, state); err != nil {
		return err
	}
	t := &Template{Key: r.Key, Description: r.Description, Created: time.Now().UTC(), MemorySize: r.MemorySize}
	if err := t.write(staging.path, memory); err != nil {
		return err
	}
	// One without a manifest is none, and in the way all the same.
	if err := s.Remove(r.Key); err != nil {
		return err
	}
	return os.Rename(staging.path, filepath.Join(s.dir, r.Key))
}

// write stores the memory and the manifest.
func (t *Template) write(dir string, memory *os.File) error {
	stored, err := os.OpenFile(filepath.Join(dir, fileMemory), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer stored.Close()
	if t.MemoryUsed, err = copyUsed(stored, memory, t.MemorySize); err != nil {
		return fmt.Errorf("store memory: %w", err)
	}
	// The VMM runs as another user and has to open it for writing, though it
	// never writes to it. The directories around it let nobody pass.
	if err := stored.Chmod(0o666); err != nil {
		return err
	}
	state, err := os.ReadFile(filepath.Join(dir, fileState))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(state)
	t.StateDigest = hex.EncodeToString(sum[:])
	manifest, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, fileManifest), manifest, 0o600)
}

// room is what a template of a large guest takes, and what is asked for before
// one is booted. Without it each start would boot a machine in vain.
const room = 160 << 20

func (s *Store) checkRoom(memorySize int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return fmt.Errorf("look for free space in %s: %w", s.dir, err)
	}
	want := min(room, memorySize)
	if free := int64(fs.Bavail) * fs.Bsize; free < want {
		return fmt.Errorf("%s has %d MiB of free space, a template wants %d MiB: %w", s.dir, free>>20, want>>20, errdefs.ErrResourceExhausted)
	}
	return nil
}
