package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations by which containerd and Docker name an image in full.
const fullNameKey = "io.containerd.image.name"

// files is where a layout is: a directory or an archive.
type files interface {
	// open opens a file by its slash-separated name.
	open(name string) (io.ReadCloser, error)
	// where names the place for errors.
	where() string
}

type dirFiles string

func (d dirFiles) where() string { return string(d) }

func (d dirFiles) open(name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(d), filepath.FromSlash(name)))
}

// layoutSource finds an image in an OCI layout.
func layoutSource(in files, tag string, want *ocispec.Platform) (*source, error) {
	index, err := readLayoutIndex(in)
	if err != nil {
		return nil, err
	}
	desc, err := pickTag(index.Manifests, tag, in)
	if err != nil {
		return nil, err
	}
	return manifestSource(in, desc, want)
}

// manifestSource follows indexes down to the manifest of a platform.
func manifestSource(in files, desc ocispec.Descriptor, want *ocispec.Platform) (*source, error) {
	for range 4 { // indexes in indexes; more than one is rare
		b, err := readDocument(in, desc)
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
		}
		if !isIndex(desc.MediaType) {
			fetch := func(_ context.Context, d ocispec.Descriptor) (openBlob, error) { return openLayoutBlob(in, d) }
			plain := ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
			return &source{desc: plain, manifest: b, fetch: fetch}, nil
		}
		var index ocispec.Index
		if err := json.Unmarshal(b, &index); err != nil {
			return nil, fmt.Errorf("index %s: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
		}
		if desc, err = pickPlatform(index.Manifests, want); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("indexes are nested too deeply: %w", errdefs.ErrInvalidArgument)
}

func readLayoutIndex(in files) (*ocispec.Index, error) {
	f, err := in.open("index.json")
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, notFound("%s is no OCI layout, it has no index.json", in.where())
		}
		return nil, err
	}
	defer f.Close()
	var index ocispec.Index
	if err := json.NewDecoder(io.LimitReader(f, maxDocument)).Decode(&index); err != nil {
		return nil, fmt.Errorf("index.json of %s: %w: %w", in.where(), err, errdefs.ErrInvalidArgument)
	}
	return &index, nil
}

func openLayoutBlob(in files, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	return in.open(path.Join("blobs", desc.Digest.Algorithm().String(), desc.Digest.Encoded()))
}

func readDocument(in files, desc ocispec.Descriptor) ([]byte, error) {
	f, err := openLayoutBlob(in, desc)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readVerified(f, desc)
}

// pickTag finds an image by its tag, its full name or its digest. Without one
// there must be a single image.
func pickTag(list []ocispec.Descriptor, tag string, in files) (ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	var tags []string
	for _, d := range list {
		name := refName(d)
		tags = append(tags, name)
		match := tag == "" || tag == name || tag == d.Annotations[fullNameKey] || tag == d.Digest.String()
		if match && !seen[d.Digest] {
			seen[d.Digest] = true
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(list) == 0:
		return ocispec.Descriptor{}, notFound("%s holds no image", in.where())
	case len(found) == 0:
		return ocispec.Descriptor{}, notFound("%s has no image %q; it has: %s", in.where(), tag, strings.Join(tags, ", "))
	}
	return ocispec.Descriptor{}, fmt.Errorf("%s holds several images, say which (%s): %w", in.where(), strings.Join(tags, ", "), errdefs.ErrInvalidArgument)
}

// pickPlatform finds the manifest for a platform. Without one asked for, the
// first will do.
func pickPlatform(list []ocispec.Descriptor, want *ocispec.Platform) (ocispec.Descriptor, error) {
	var names []string
	for _, d := range list {
		if d.Platform == nil {
			d.Platform = &ocispec.Platform{}
		}
		name := platformName(*d.Platform)
		if checkPlatform(&Image{Platform: name}, want) == nil {
			return d, nil
		}
		if !strings.HasPrefix(name, "unknown") { // signatures and the like
			names = append(names, name)
		}
	}
	return ocispec.Descriptor{}, notFound("there is none for %s, only for: %s", platformName(*want), strings.Join(names, ", "))
}
