package bench

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// writeBulkImage makes the file to read: in the shared directory, and in an
// image that is the lab's with one more layer. It returns the image's name.
func (l *lab) writeBulkImage(ctx context.Context) (string, error) {
	if err := os.MkdirAll(l.path("share"), 0o755); err != nil {
		return "", fmt.Errorf("make directory to share: %w", err)
	}
	data := l.path("share", fileName)
	if err := writeNoise(data, fileSize); err != nil {
		return "", fmt.Errorf("make a file to read: %w", err)
	}
	layout := l.path("layout")
	if err := l.extend(layout, data); err != nil {
		return "", fmt.Errorf("make an image to read from: %w", err)
	}
	name := "oci:" + layout
	if _, err := l.pull(ctx, name); err != nil {
		return "", err
	}
	// It is in the store now.
	return name, nil
}

// writeNoise writes bytes that neither compress nor repeat, the same each time.
func writeNoise(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{}), size); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// extend writes an OCI layout with the lab's image and a layer on top that
// holds one file.
func (l *lab) extend(layout, file string) error {
	manifest, err := l.manifest()
	if err != nil {
		return err
	}
	blobs := filepath.Join(layout, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	for _, layer := range manifest.Layers {
		if err := os.Link(l.blob(layer), filepath.Join(blobs, layer.Digest.Encoded())); err != nil {
			return err
		}
	}
	top, err := writeLayer(blobs, file)
	if err != nil {
		return err
	}
	var config ocispec.Image
	if err := readJSON(l.blob(manifest.Config), &config); err != nil {
		return err
	}
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, top.Digest)
	config.History = nil
	manifest.Layers = append(manifest.Layers, top)
	if manifest.Config, err = writeBlob(blobs, manifest.Config.MediaType, &config); err != nil {
		return err
	}
	desc, err := writeBlob(blobs, ocispec.MediaTypeImageManifest, manifest)
	if err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(layout, ocispec.ImageLayoutFile), ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}); err != nil {
		return err
	}
	return writeJSON(filepath.Join(layout, ocispec.ImageIndexFile), ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{desc},
	})
}

// writeBlob adds a document to a layout.
func writeBlob(blobs, mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return desc, os.WriteFile(filepath.Join(blobs, desc.Digest.Encoded()), data, 0o644)
}

// writeLayer adds an uncompressed layer with one file to a layout.
func writeLayer(blobs, file string) (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	in, err := os.Open(file)
	if err != nil {
		return desc, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return desc, err
	}
	out, err := os.CreateTemp(blobs, "layer")
	if err != nil {
		return desc, err
	}
	defer out.Close()
	sum := sha256.New()
	w := tar.NewWriter(io.MultiWriter(out, sum))
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: filepath.Base(file), Size: info.Size(), Mode: 0o644, Format: tar.FormatPAX})
	if err == nil {
		_, err = io.Copy(w, in)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return desc, err
	}
	if info, err = out.Stat(); err != nil {
		return desc, err
	}
	desc = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.NewDigest(digest.SHA256, sum), Size: info.Size()}
	return desc, os.Rename(out.Name(), filepath.Join(blobs, desc.Digest.Encoded()))
}
