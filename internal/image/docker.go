package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dougong.dev/dougong/internal/image/reference"
)

// dockerImage is one image in the manifest.json of "docker save".
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func dockerManifests(a *archive) ([]dockerImage, error) {
	b, err := readMember(a, "manifest.json")
	if err != nil {
		return nil, err
	}
	var list []dockerImage
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("manifest.json of %s: %w: %w", a.name, err, errdefs.ErrInvalidArgument)
	}
	if len(list) == 0 {
		return nil, notFound("%s holds no image", a.name)
	}
	return list, nil
}

func readMember(a *archive, name string) ([]byte, error) {
	f, err := a.open(name)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && len(b) > maxDocument {
		return nil, fmt.Errorf("%s of %s has more than %d bytes: %w", name, a.name, maxDocument, errdefs.ErrResourceExhausted)
	}
	return b, err
}

// pickDocker finds an image by name; without one there must be a single image.
func pickDocker(list []dockerImage, name string) (dockerImage, error) {
	if name == "" && len(list) == 1 {
		return list[0], nil
	}
	var tags []string
	for _, d := range list {
		for _, tag := range d.RepoTags {
			tags = append(tags, tag)
			if ref, err := reference.Parse("docker://" + tag); err == nil && ref.Name == name {
				return d, nil
			}
		}
	}
	if name == "" {
		return dockerImage{}, fmt.Errorf("it holds several images, say which (%s): %w", strings.Join(tags, ", "), errdefs.ErrInvalidArgument)
	}
	return dockerImage{}, notFound("it has no image %s; it has: %s", name, strings.Join(tags, ", "))
}

// dockerSource makes an OCI manifest for an image that has none. Layers are
// taken as they are, mostly uncompressed, and hashed first.
func (s *Store) dockerSource(ctx context.Context, a *archive, d dockerImage) (*source, error) {
	config, err := readMember(a, d.Config)
	if err != nil {
		return nil, err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: describe(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{},
	}
	paths := map[digest.Digest]string{m.Config.Digest: d.Config}
	for i, name := range d.Layers {
		desc, err := hashMember(ctx, a, name)
		if err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", i+1, len(d.Layers), err)
		}
		paths[desc.Digest] = name
		m.Layers = append(m.Layers, desc)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	fetch := func(_ context.Context, desc ocispec.Descriptor) (openBlob, error) { return a.open(paths[desc.Digest]) }
	return &source{desc: describe(m.MediaType, b), manifest: b, fetch: fetch}, nil
}

func describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func hashMember(ctx context.Context, a *archive, name string) (ocispec.Descriptor, error) {
	f, err := a.open(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer f.Close()
	sum := digest.SHA256.Digester()
	n, err := io.Copy(sum.Hash(), &counter{ctx: ctx, r: f})
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: sum.Digest(), Size: n}, err
}
