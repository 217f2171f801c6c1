package template

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Recipe makes a template.
type Recipe struct {
	Key, Description string
	// Files are what the machine is made of. The template is stale when one of
	// them has changed.
	Files []string
	// MemorySize is the guest's memory in bytes.
	MemorySize int64
	// Boot boots a machine on this memory, waits until it is up, and saves it.
	// It returns how long the machine took from its start until it was up.
	Boot func(ctx context.Context, memory, state *os.File) (time.Duration, error)
	// Warm, when set, has a machine go on from the saved state, on its memory,
	// and saves it once more in another file for the state; beside that it keeps the
	// VMM itself in dir. Kind says what that is good for. It may fail.
	Warm func(ctx context.Context, memory, from, state *os.File, dir string) error
	Kind string
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

// create boots and saves a machine, and moves it to its place whole.
func (s *Store) create(ctx context.Context, r Recipe) error {
	// They may be in the way of the new one.
	s.dropStale()
	if err := s.checkRoom(r.MemorySize); err != nil {
		return err
	}
	sources, err := identifyAll(slices.Concat(r.Files, s.common))
	if err != nil {
		return err
	}
	memory, err := newMemory(r.MemorySize)
	if err != nil {
		return err
	}
	defer memory.Close()
	state, err := newMemory(0)
	if err != nil {
		return err
	}
	defer state.Close()
	took, err := r.Boot(ctx, memory, state)
	if err != nil {
		return err
	}
	place := s.place(memory, r.Warm != nil)
	t := &Template{
		Key: r.Key, Description: r.Description, Created: time.Now().UTC(),
		MemorySize: r.MemorySize, BootTook: took, InMemory: place != s, Sources: sources,
	}
	return place.put(ctx, t, r, memory, state)
}

// put writes a template beside its place and moves it there.
func (s *Store) put(ctx context.Context, t *Template, r Recipe, memory, state *os.File) error {
	staging, err := s.holdNew()
	if err != nil {
		return err
	}
	defer staging.remove()
	if r.Warm != nil {
		w, err := t.warm(ctx, r, memory, state, staging.path)
		if err != nil {
			// What there is does without.
			slog.WarnContext(ctx, "template without its VMM", "template", t.Key, "error", err)
			t.NotWarm = err.Error()
		} else {
			defer w.close()
			memory, state = w.memory, w.state
		}
	}
	if err := t.write(staging.path, memory, state); err != nil {
		return err
	}
	// One without a manifest is none, and in the way all the same.
	if err := s.Remove(t.Key); err != nil {
		return err
	}
	return os.Rename(staging.path, filepath.Join(s.dir, t.Key))
}

// write stores the memory, the device state and the manifest.
func (t *Template) write(dir string, memory, state *os.File) error {
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
	saved, err := io.ReadAll(io.NewSectionReader(state, 0, math.MaxInt64))
	if err != nil {
		return fmt.Errorf("store device state: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileState), saved, 0o600); err != nil {
		return err
	}
	sum := sha256.Sum256(saved)
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
