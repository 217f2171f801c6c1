package imagetest

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image to be built. The zero Platform is Linux on this machine.
type Image struct {
	Layers   []*Layer
	Config   ocispec.ImageConfig
	Platform ocispec.Platform
	// Edit, if not nil, may spoil the configuration before it is written.
	Edit func(*ocispec.Image)
}

// Built is an image with all its blobs.
type Built struct {
	// Manifest describes the manifest.
	Manifest ocispec.Descriptor
	// Config and Layers are the digests of blobs; Diffs those of the layers
	// uncompressed.
	Config digest.Digest
	Layers []digest.Digest
	Diffs  []digest.Digest
	Blobs  map[digest.Digest][]byte
}

// Build makes manifest, configuration and blobs.
func (i *Image) Build() (*Built, error) {
	b := &Built{Blobs: map[digest.Digest][]byte{}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	for _, l := range i.Layers {
		desc, blob, diff, err := l.blob()
		if err != nil {
			return nil, err
		}
		b.Blobs[desc.Digest] = blob
		b.Layers = append(b.Layers, desc.Digest)
		b.Diffs = append(b.Diffs, diff)
		m.Layers = append(m.Layers, desc)
	}
	config, err := json.Marshal(i.config(b.Diffs))
	if err != nil {
		return nil, err
	}
	m.Config = describe(ocispec.MediaTypeImageConfig, config)
	b.Config = m.Config.Digest
	b.Blobs[b.Config] = config
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	b.Manifest = describe(m.MediaType, manifest)
	b.Blobs[b.Manifest.Digest] = manifest
	return b, nil
}

func (i *Image) config(diffs []digest.Digest) *ocispec.Image {
	created := Epoch.UTC()
	c := &ocispec.Image{
		Created: &created, Config: i.Config, Platform: i.platform(),
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: diffs},
	}
	if i.Edit != nil {
		i.Edit(c)
	}
	return c
}

func (i *Image) platform() ocispec.Platform {
	if i.Platform.OS == "" {
		return ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	return i.Platform
}

// WriteLayout makes the image an OCI layout in dir, with a tag if it is not
// empty. Images that are in the layout already stay, under other tags.
func (i *Image) WriteLayout(dir, tag string) (*Built, error) {
	b, err := i.Build()
	if err != nil {
		return nil, err
	}
	for d, blob := range b.Blobs {
		if err := write(filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded()), blob); err != nil {
			return nil, err
		}
	}
	if err := write(filepath.Join(dir, ocispec.ImageLayoutFile), []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return nil, err
	}
	return b, addToIndex(filepath.Join(dir, "index.json"), b.Manifest, tag)
}

func addToIndex(path string, desc ocispec.Descriptor, tag string) error {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	old, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(old, &index)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(d ocispec.Descriptor) bool {
		return d.Annotations[ocispec.AnnotationRefName] == tag
	})
	if tag != "" {
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	}
	index.Manifests = append(index.Manifests, desc)
	b, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	return write(path, b)
}

func write(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

// WriteDockerArchive writes the image as "docker save" does.
func (i *Image) WriteDockerArchive(w io.Writer, tags ...string) error {
	b, err := i.Build()
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	put := func(name string, content []byte) {
		if err == nil {
			err = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644})
		}
		if err == nil {
			_, err = tw.Write(content)
		}
	}
	config := b.Config.Encoded() + ".json"
	put(config, b.Blobs[b.Config])
	var layers []string
	for n, l := range i.Layers {
		name := fmt.Sprintf("%d/layer.tar", n)
		plain, terr := l.Tar()
		err = errors.Join(err, terr)
		put(name, plain)
		layers = append(layers, name)
	}
	manifest, merr := json.Marshal([]map[string]any{{"Config": config, "RepoTags": tags, "Layers": layers}})
	put("manifest.json", manifest)
	return errors.Join(err, merr, tw.Close())
}

// TarLayout packs an OCI layout directory into an oci-archive.
func TarLayout(w io.Writer, dir string) error {
	tw := tar.NewWriter(w)
	if err := tw.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	return tw.Close()
}
