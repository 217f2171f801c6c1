package image

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// stampKey is the annotation that says which state of a local archive an image
// was made from.
const stampKey = "dev.dougong.image.stamp"

// readIndex reads the names of the store. It needs no lock: index.json is
// always replaced whole.
func (s *Store) readIndex() (*ocispec.Index, error) {
	index := &ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	b, err := os.ReadFile(s.path("oci/index.json"))
	if os.IsNotExist(err) {
		return index, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, index); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.path("oci/index.json"), err)
	}
	return index, nil
}

// updateIndex changes the names of the store under its lock.
func (s *Store) updateIndex(ctx context.Context, change func([]ocispec.Descriptor) []ocispec.Descriptor) error {
	l, err := waitLock(ctx, s.path("locks/index"), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer l.release()
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	index.Manifests = change(index.Manifests)
	b, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	return s.writeFile("oci/index.json", append(b, '\n'))
}

func refName(d ocispec.Descriptor) string { return d.Annotations[ocispec.AnnotationRefName] }

// setRef gives a name to a manifest, and takes it from any other.
func (s *Store) setRef(ctx context.Context, ref, stamp string, desc ocispec.Descriptor) error {
	return s.updateIndex(ctx, func(list []ocispec.Descriptor) []ocispec.Descriptor {
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: ref}
		if stamp != "" {
			desc.Annotations[stampKey] = stamp
		}
		return append(without(list, ref), desc)
	})
}

func without(list []ocispec.Descriptor, refs ...string) []ocispec.Descriptor {
	kept := make([]ocispec.Descriptor, 0, len(list)+1)
	for _, d := range list {
		if !slices.Contains(refs, refName(d)) {
			kept = append(kept, d)
		}
	}
	return kept
}
