package image

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker that mean the same as OCI's.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs."
	ociLayer       = "application/vnd.oci.image.layer."
)

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerList
}

// parseManifest reads a manifest and checks that it is one of an image that
// can be run.
func parseManifest(b []byte) (*ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if m.SchemaVersion != 2 {
		return nil, fmt.Errorf("manifest has schema version %d, only 2 is known: %w", m.SchemaVersion, errdefs.ErrInvalidArgument)
	}
	if t := m.Config.MediaType; t != ocispec.MediaTypeImageConfig && t != dockerConfig {
		return nil, fmt.Errorf("it is no container image: its configuration is of type %q: %w", t, errdefs.ErrInvalidArgument)
	}
	if err := checkDescriptor(m.Config); err != nil {
		return nil, err
	}
	for i, l := range m.Layers {
		if err := checkLayer(l); err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", i+1, len(m.Layers), err)
		}
	}
	return &m, nil
}

// checkLayer takes the tar types; the stream itself tells its compression.
func checkLayer(l ocispec.Descriptor) error {
	known := strings.HasPrefix(l.MediaType, ociLayer) || strings.HasPrefix(l.MediaType, dockerLayer)
	if !known || strings.Contains(l.MediaType, "encrypted") {
		return fmt.Errorf("layer %s is of type %q, which is not supported: %w", l.Digest, l.MediaType, errdefs.ErrNotImplemented)
	}
	return checkDescriptor(l)
}
