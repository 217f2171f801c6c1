package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// collectWait is how long removal waits for pulls that keep it from freeing
// space. Later removals and pulls make up for it.
const collectWait = time.Second

// RemoveOptions is how to remove an image.
type RemoveOptions struct {
	// Force removes all names of an id, and the name of an image in use. The
	// files in use go with the first removal or pull after that.
	Force bool
	// UsedBy, if not nil, names the containers of an image, running or not.
	UsedBy func(*Image) ([]string, error)
}

// Remove takes away an image by name or id and frees what no other image
// needs. It gives the names that were removed. Without Force it refuses for an
// image that is in use (errdefs.ErrFailedPrecondition).
func (s *Store) Remove(ctx context.Context, nameOrID string, opts RemoveOptions) ([]string, error) {
	refs, err := s.remove(ctx, nameOrID, opts)
	if err != nil {
		return nil, fmt.Errorf("remove image %s: %w", nameOrID, err)
	}
	return refs, nil
}

func (s *Store) remove(ctx context.Context, nameOrID string, opts RemoveOptions) ([]string, error) {
	images, err := s.find(nameOrID)
	if err != nil {
		return nil, err
	}
	var refs []string
	for _, img := range images {
		refs = append(refs, img.Ref)
	}
	if !opts.Force {
		if len(refs) > 1 {
			return nil, fmt.Errorf("it has several names, remove them one by one or use --force (%s): %w",
				strings.Join(refs, ", "), errdefs.ErrFailedPrecondition)
		}
		if err := s.checkUnused(images[0], opts); err != nil {
			return nil, err
		}
	}
	err = s.updateIndex(ctx, func(list []ocispec.Descriptor) []ocispec.Descriptor { return without(list, refs...) })
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, collectWait)
	defer cancel()
	return refs, s.collect(wait)
}

// checkUnused refuses for an image that a container or a VM needs, unless
// another name keeps its files.
func (s *Store) checkUnused(img *Image, opts RemoveOptions) error {
	if opts.UsedBy != nil {
		users, err := opts.UsedBy(img)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return fmt.Errorf("it is used by %s (remove the container first, or use --force): %w",
				strings.Join(users, ", "), errdefs.ErrFailedPrecondition)
		}
	}
	all, err := s.List()
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Ref != img.Ref && other.RootFS == img.RootFS {
			return nil
		}
	}
	if inUse(img.RootFS) {
		return fmt.Errorf("a running sandbox uses it (stop it first, or use --force): %w", errdefs.ErrFailedPrecondition)
	}
	return nil
}

func inUse(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(flock(f, unix.LOCK_EX), errBusy)
}

// tryCollect frees space unless a pull is under way. What it cannot do now a
// later one does, so its errors do not matter.
func (s *Store) tryCollect() {
	ctx, cancel := context.WithTimeout(context.Background(), lockPoll/2)
	defer cancel()
	_ = s.collect(ctx)
}

// collect removes all blobs and EROFS files that no name leads to. Pulls hold
// the lock shared, since their blobs have no name yet.
func (s *Store) collect(ctx context.Context) error {
	l, err := waitLock(ctx, s.path("locks/gc"), unix.LOCK_EX)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.release()
	live, err := s.live()
	if err != nil {
		return err
	}
	return errors.Join(s.sweepBlobs(live), s.sweepRootFS(live))
}

// live gives the paths of everything that a name leads to.
func (s *Store) live() (map[string]bool, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	live := map[string]bool{}
	for _, desc := range index.Manifests {
		live[s.blobPath(desc.Digest)] = true
		img, err := s.load(desc)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, errdefs.ErrDataLoss) {
			continue // the next pull mends it
		}
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", refName(desc), err)
		}
		live[s.blobPath(img.ID)] = true
		live[img.RootFS] = true
		for _, l := range img.layers {
			live[s.blobPath(l.Digest)] = true
		}
	}
	return live, nil
}

func (s *Store) sweepBlobs(live map[string]bool) error {
	algorithms, err := os.ReadDir(s.path("oci/blobs"))
	if err != nil {
		return err
	}
	for _, a := range algorithms {
		dir := s.path("oci/blobs", a.Name())
		err = errors.Join(err, eachDead(dir, live, os.Remove))
	}
	return err
}

func (s *Store) sweepRootFS(live map[string]bool) error {
	return eachDead(s.path("erofs"), live, func(path string) error {
		sweepFile(path) // not those in use
		return nil
	})
}

func eachDead(dir string, live map[string]bool, drop func(string) error) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if path := filepath.Join(dir, e.Name()); !live[path] {
			err = errors.Join(err, drop(path))
		}
	}
	return err
}
