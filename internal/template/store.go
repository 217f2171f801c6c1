package template

import (
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
	// Warm is of which kind the VMM is that is kept with it, empty where there is
	// none, and WarmUsed what is stored of that in bytes.
	Warm     string `json:"warm,omitempty"`
	WarmUsed int64  `json:"warmUsed,omitempty"`
	// NotWarm says why the VMM could not be kept, empty where that was not tried.
	NotWarm string `json:"notWarm,omitempty"`
	// StateDigest is of the device state, in hexadecimal digits.
	StateDigest string `json:"stateDigest"`
	// BootTook is how long the machine took from its start until it was up.
	BootTook time.Duration `json:"bootTook"`
	// Sources are what it was made of.
	Sources []Source `json:"sources,omitempty"`
	// InMemory says that it is kept in the host's memory and not on disk.
	InMemory bool `json:"inMemory,omitempty"`

	dir string
}

// Store is a directory of templates, and perhaps another one in memory for
// those that are small.
type Store struct {
	dir string
	// memory is a store in a file system of memory, nil when there is none, and
	// limit is what may be kept there, in bytes.
	memory *Store
	limit  int64
	// common are what all templates depend on.
	common []string
}

// Open returns the store in dir and makes it when missing, and removes what
// killed processes have left in it. Nobody but root may look into it: a
// template is the memory of every clone.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make template directory: %w", err)
	}
	s := &Store{dir: dir}
	s.sweep()
	return s, nil
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
	if !validKey.MatchString(key) {
		return nil, fmt.Errorf("template %q: %w", key, errdefs.ErrInvalidArgument)
	}
	if m := s.inMemory(); m != nil {
		if t, err := m.Get(key); err == nil {
			return t, nil
		}
	}
	t, err := s.read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("template %s: %w", key, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("template %s: %w", key, errdefs.ErrNotFound), s.discard(key, err))
	}
	now := time.Now()
	// Only the order of use hangs on it.
	_ = os.Chtimes(filepath.Join(t.dir, fileManifest), now, now)
	return t, nil
}

func (s *Store) read(key string) (*Template, error) {
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

// List returns all templates, the most recently used first. Damaged ones are
// removed.
func (s *Store) List() ([]*Template, error) {
	used := map[string]time.Time{}
	list, err := s.listInto(used)
	if m := s.inMemory(); err == nil && m != nil {
		var more []*Template
		more, err = m.listInto(used)
		list = append(list, more...)
	}
	slices.SortFunc(list, func(a, b *Template) int { return used[b.Key].Compare(used[a.Key]) })
	return list, err
}

// listInto lists one directory, and notes when each template was used.
func (s *Store) listInto(used map[string]time.Time) ([]*Template, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*", fileManifest))
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	var list []*Template
	for _, path := range paths {
		key := filepath.Base(filepath.Dir(path))
		info, err := os.Stat(path)
		// What is being made has a manifest at the end.
		if err != nil || !validKey.MatchString(key) {
			continue
		}
		t, err := s.read(key)
		switch {
		case err == nil:
			used[t.Key] = info.ModTime()
			list = append(list, t)
		case !errors.Is(err, fs.ErrNotExist):
			if err := s.discard(key, err); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// Has says whether there is a template, whole or damaged.
func (s *Store) Has(key string) (bool, error) {
	if !validKey.MatchString(key) {
		return false, fmt.Errorf("template %q: %w", key, errdefs.ErrInvalidArgument)
	}
	if m := s.inMemory(); m != nil {
		if has, err := m.Has(key); has || err != nil {
			return has, err
		}
	}
	_, err := os.Stat(filepath.Join(s.dir, key))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// discard removes a damaged template.
func (s *Store) discard(key string, why error) error {
	slog.Warn("template is damaged and goes", "template", key, "error", why)
	return s.Remove(key)
}

// Remove deletes a template. Clones that run go on: they have its memory open.
func (s *Store) Remove(key string) error {
	if !validKey.MatchString(key) {
		return fmt.Errorf("template %q: %w", key, errdefs.ErrInvalidArgument)
	}
	if m := s.inMemory(); m != nil {
		if err := m.Remove(key); err != nil {
			return err
		}
	}
	// Out of everybody's way first, so that no half of it is found.
	gone, err := s.holdNew()
	if err != nil {
		return fmt.Errorf("remove template %s: %w", key, err)
	}
	defer gone.remove()
	err = os.Rename(filepath.Join(s.dir, key), filepath.Join(gone.path, key))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove template %s: %w", key, err)
	}
	return nil
}

// Clear removes all templates, damaged ones too.
func (s *Store) Clear() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("remove templates: %w", err)
	}
	var errs []error
	if m := s.inMemory(); m != nil {
		errs = append(errs, m.Clear())
	}
	for _, e := range entries {
		if validKey.MatchString(e.Name()) {
			errs = append(errs, s.Remove(e.Name()))
		}
	}
	return errors.Join(errs...)
}

// prune removes the least recently used templates.
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
}
