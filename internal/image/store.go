package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/layer"
)

// DefaultRoot is where the store is unless the configuration says otherwise.
const DefaultRoot = "/var/lib/dougong"

// Store is an image store on disk. Its methods may be called concurrently.
type Store struct {
	root   string
	limits layer.Limits
}

// Options configure a store.
type Options struct {
	// Limits for what images may unpack to; zero means [layer.DefaultLimits].
	Limits layer.Limits
}

// Open opens the store at root and makes it where there is none. It removes
// what interrupted processes left half-made.
func Open(root string, opts Options) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s := &Store{root: root, limits: opts.Limits}
	if s.limits == (layer.Limits{}) {
		s.limits = layer.DefaultLimits()
	}
	if err := s.create(); err != nil {
		return nil, fmt.Errorf("open image store: %w", explain(err, root))
	}
	s.sweep()
	return s, nil
}

// Root is the directory of the store.
func (s *Store) Root() string { return s.root }

func (s *Store) create() error {
	if err := os.MkdirAll(s.root, 0o711); err != nil {
		return err
	}
	for _, dir := range []string{"oci/blobs", "erofs", "locks", "tmp"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return err
		}
	}
	_, err := os.Stat(s.path("oci/oci-layout"))
	if errors.Is(err, os.ErrNotExist) {
		return s.writeFile("oci/oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`+"\n"))
	}
	return err
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.root}, parts...)...)
}

// explain says what to do about errors whose text does not tell it.
func explain(err error, root string) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("no space left for images in %s (remove some with \"dougong rmi\", or choose another store directory): %w", root, err)
	}
	return err
}
