package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dougong.dev/dougong/internal/image/reference"
)

// Image is an image in the store, or a directory that is used as one.
type Image struct {
	// Ref is the name in full: docker.io/library/busybox:latest, or a local
	// reference such as oci:/srv/image:v1.
	Ref string
	// ID is the digest of the configuration, as in Docker; empty for a
	// directory.
	ID digest.Digest
	// Digest is that of the manifest.
	Digest digest.Digest
	// Platform is what the image was built for, as linux/amd64.
	Platform string
	Config   ocispec.ImageConfig
	Created  time.Time
	// Size is how many bytes the unpacked image takes on disk.
	Size int64
	// RootFS is the path of the EROFS file; empty for a directory.
	RootFS string
	// Dir is the root directory of a dir: reference; empty for all others.
	Dir string

	desc   ocispec.Descriptor
	layers []ocispec.Descriptor
	diffs  []digest.Digest
}

// Get gives the image of a name or of an id, of which any first part will do
// that only one image has. An unknown one is errdefs.ErrNotFound.
func (s *Store) Get(nameOrID string) (*Image, error) {
	images, err := s.find(nameOrID)
	if err != nil {
		return nil, err
	}
	return images[0], nil
}

// List gives all images in the order of their names.
func (s *Store) List() ([]*Image, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	images := make([]*Image, 0, len(index.Manifests))
	for _, desc := range index.Manifests {
		img, err := s.load(desc)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, errdefs.ErrDataLoss) {
			continue // removed since the index was read, or to be pulled again
		}
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", refName(desc), err)
		}
		images = append(images, img)
	}
	slices.SortFunc(images, func(a, b *Image) int { return strings.Compare(a.Ref, b.Ref) })
	return images, nil
}

// find gives the one image of a name, or all names of one image's id.
func (s *Store) find(nameOrID string) ([]*Image, error) {
	images, err := s.List()
	if err != nil {
		return nil, err
	}
	ref, refErr := reference.Parse(nameOrID)
	for _, img := range images {
		if refErr == nil && (img.Ref == ref.String() || matchesDigest(img, ref)) {
			return []*Image{img}, nil
		}
	}
	if byID, err := findID(images, nameOrID); len(byID) > 0 || err != nil {
		return byID, err
	}
	if refErr != nil {
		return nil, refErr
	}
	return nil, fmt.Errorf("image %q is not in the store: %w", nameOrID, errdefs.ErrNotFound)
}

// matchesDigest finds name@sha256:… of an image that was pulled by tag.
func matchesDigest(img *Image, ref reference.Reference) bool {
	repo, sum, ok := strings.Cut(ref.Name, "@")
	return ok && ref.Transport == reference.Registry && sum == img.Digest.String() &&
		strings.HasPrefix(img.Ref, repo+":")
}

func findID(images []*Image, prefix string) ([]*Image, error) {
	prefix = strings.TrimPrefix(prefix, "sha256:")
	if prefix == "" || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil, nil
	}
	var found []*Image
	for _, img := range images {
		if !strings.HasPrefix(img.ID.Encoded(), prefix) {
			continue
		}
		if len(found) > 0 && found[0].ID != img.ID {
			return nil, fmt.Errorf("image id %q is the start of several ids, give more of it: %w", prefix, errdefs.ErrInvalidArgument)
		}
		found = append(found, img)
	}
	return found, nil
}

// load reads the image of an index entry.
func (s *Store) load(desc ocispec.Descriptor) (*Image, error) {
	b, err := s.readBlob(desc)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	m, err := parseManifest(b)
	if err != nil {
		return nil, err
	}
	config, err := s.readBlob(m.Config)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	img, err := newImage(desc, m, config)
	if err != nil {
		return nil, err
	}
	img.Ref = refName(desc)
	s.locate(img)
	return img, nil
}

// newImage puts an image together from its documents.
func newImage(desc ocispec.Descriptor, m *ocispec.Manifest, config []byte) (*Image, error) {
	var c ocispec.Image
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("configuration %s: %w: %w", m.Config.Digest, err, errdefs.ErrInvalidArgument)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("configuration names %d layers, the manifest has %d: %w",
			len(c.RootFS.DiffIDs), len(m.Layers), errdefs.ErrInvalidArgument)
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("layer digest %.100q in the configuration: %w: %w", d, err, errdefs.ErrInvalidArgument)
		}
	}
	img := &Image{
		ID: m.Config.Digest, Digest: desc.Digest, Config: c.Config, Platform: platformName(c.Platform),
		desc: desc, layers: m.Layers, diffs: c.RootFS.DiffIDs,
	}
	if c.Created != nil {
		img.Created = *c.Created
	}
	return img, nil
}

// locate fills in what is known from the EROFS file.
func (s *Store) locate(img *Image) {
	img.RootFS = s.rootfsPath(img.diffs)
	if info, err := os.Stat(img.RootFS); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			img.Size = st.Blocks * 512
		}
	}
}
