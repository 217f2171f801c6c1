package template

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Files of a template.
const (
	fileMemory   = "memory"
	fileState    = "state"
	fileManifest = "manifest.json"
)

// keep is how many templates stay; the least recently used go first. One is
// about as large as the memory that a booted guest has touched.
const keep = 8

var validKey = regexp.MustCompile(`^[0-9a-f]{16,64}$`)

// Template is a saved machine.
type Template struct {
	// Key says what the machine was made of.
	Key string `json:"key"`
	// Description tells people the same.
	Description string    `json:"description"`
	Created     time.Time `json:"created"`
	// MemorySize is the guest's memory in bytes, MemoryUsed what is stored of it.
	MemorySize int64 `json:"memorySize"`
	MemoryUsed int64 `json:"memoryUsed"`
	// StateDigest is of the device state, in hexadecimal digits.
	StateDigest string `json:"stateDigest"`

	dir string
}

// Store is a directory of templates.
type Store struct{ dir string }

// Open returns the store in dir and makes it when missing. Nobody but root
// may look into it: a template is the memory of every clone.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make template directory: %w", err)
	}
	return &Store{dir: dir}, nil
}

// Key makes a key of everything that decides whether a saved machine can be
// used for another.
func Key(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s\n", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// Get returns a template whose files are whole; errdefs.ErrNotFound when there
// is none. A damaged one is removed.
func (s *Store) Get(key string) (*Template, error) {
	t, err := s.read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("template %s: %w", key, errdefs.ErrNotFound)
	}
	if err != nil {
		slog.Warn("template is damaged and goes", "template", key, "error", err)
		return nil, errors.Join(fmt.Errorf("template %s: %w", key, errdefs.ErrNotFound), s.Remove(key))
	}
	now := time.Now()
	// Only the order of use hangs on it.
	_ = os.Chtimes(filepath.Join(t.dir, fileManifest), now, now)
	return t, nil
}

func (s *Store) read(key string) (*Template, error) {
	if !validKey.MatchString(key) {
		return nil, fmt.Errorf("key %q: %w", key, errdefs.ErrInvalidArgument)
	}
	dir := filepath.Join(s.dir, key)
	data, err := os.ReadFile(filepath.Join(dir, fileManifest))
	if err != nil {
		return nil, err
	}
	t := &Template{dir: dir}
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return t, t.check()
}

// check compares the files with the manifest. Of the memory only the size is
// compared: reading it all would take as long as a clone.
func (t *Template) check() error {
	state, err := os.ReadFile(filepath.Join(t.dir, fileState))
	if err != nil {
		return fmt.Errorf("read device state: %w", orDamaged(err))
	}
	if sum := sha256.Sum256(state); hex.EncodeToString(sum[:]) != t.StateDigest {
		return errors.New("the device state is not what was saved")
	}
	info, err := os.Stat(filepath.Join(t.dir, fileMemory))
	if err != nil {
		return fmt.Errorf("read memory: %w", orDamaged(err))
	}
	if info.Size() != t.MemorySize {
		return fmt.Errorf("the memory has %d bytes, not %d", info.Size(), t.MemorySize)
	}
	return nil
}

// orDamaged keeps a missing file of a template from passing for a missing
// template.
func orDamaged(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("it is missing")
	}
	return err
}

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
	unlock, err := s.lock(ctx, r.Key)
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

// lock keeps others from making the same template.
func (s *Store) lock(ctx context.Context, key string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, ".lock-"+key), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock template: %w", err)
	}
	locked := make(chan error, 1)
	go func() { locked <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("lock template: %w", err)
		}
		return func() { _ = f.Close() }, nil
	case <-ctx.Done():
		// The lock goes with the file as soon as it comes.
		go func() {
			if err := <-locked; err != nil {
				slog.Debug("lock template", "template", key, "error", err)
			}
			_ = f.Close()
		}()
		return nil, fmt.Errorf("wait for another process to make the template: %w", context.Cause(ctx))
	}
}

// create boots and saves a machine beside its place and moves it there.
func (s *Store) create(ctx context.Context, r Recipe) error {
	staging, err := os.MkdirTemp(s.dir, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staging)
	memory, err := newMemory(r.MemorySize)
	if err != nil {
		return err
	}
	defer memory.Close()
	state, err := os.OpenFile(filepath.Join(staging, fileState), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer state.Close()
	if err := r.Boot(ctx, memory, state); err != nil {
		return err
	}
	t := &Template{Key: r.Key, Description: r.Description, Created: time.Now().UTC(), MemorySize: r.MemorySize}
	if err := t.write(staging, memory); err != nil {
		return err
	}
	return os.Rename(staging, filepath.Join(s.dir, r.Key))
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

// List returns all templates, the most recently used first.
func (s *Store) List() ([]*Template, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*", fileManifest))
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	used := map[string]time.Time{}
	var list []*Template
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if t, err := s.read(filepath.Base(filepath.Dir(path))); err == nil {
			used[t.Key] = info.ModTime()
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b *Template) int { return used[b.Key].Compare(used[a.Key]) })
	return list, nil
}

// Remove deletes a template. Clones that run go on: they have its memory open.
func (s *Store) Remove(key string) error {
	if !validKey.MatchString(key) {
		return fmt.Errorf("template %q: %w", key, errdefs.ErrInvalidArgument)
	}
	// Out of everybody's way first, so that no half of it is found.
	gone := filepath.Join(s.dir, ".gone-"+key+"-"+fmt.Sprint(os.Getpid()))
	if err := os.Rename(filepath.Join(s.dir, key), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove template %s: %w", key, err)
	}
	if err := os.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove template %s: %w", key, err)
	}
	return nil
}

// prune removes the least recently used templates, and what killed processes
// have left.
func (s *Store) prune() {
	list, err := s.List()
	if err != nil {
		return
	}
	for _, t := range list[min(keep, len(list)):] {
		if err := s.Remove(t.Key); err != nil {
			slog.Warn("remove old template", "template", t.Key, "error", err)
		}
	}
	const old = time.Hour
	for _, pattern := range []string{".new-*", ".gone-*", ".use-*"} {
		paths, _ := filepath.Glob(filepath.Join(s.dir, pattern))
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > old {
				_ = os.RemoveAll(path)
			}
		}
	}
}
