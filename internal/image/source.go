package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dougong.dev/dougong/internal/image/reference"
)

// openBlob is a blob that is being read.
type openBlob = io.ReadCloser

func (src *source) opener(desc ocispec.Descriptor) opener {
	return func(ctx context.Context) (io.ReadCloser, error) { return src.fetch(ctx, desc) }
}

func bytesOpener(b []byte) opener {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// source finds an image where its reference says. release must be called when
// it has been copied.
func (s *Store) source(ctx context.Context, ref reference.Reference, want *ocispec.Platform) (*source, func(), error) {
	switch ref.Transport {
	case reference.Registry:
		src, err := registrySource(ctx, ref, want)
		return src, func() {}, err
	case reference.OCI:
		src, err := layoutSource(dirFiles(ref.Path), ref.Name, want)
		return src, func() {}, err
	}
	a, err := s.openArchive(ctx, ref.Path)
	if err != nil {
		return nil, nil, err
	}
	src, err := s.archiveSource(ctx, a, ref, want)
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	src.stamp = stamp(ref.Path)
	return src, func() { a.Close() }, nil
}

func (s *Store) archiveSource(ctx context.Context, a *archive, ref reference.Reference, want *ocispec.Platform) (*source, error) {
	if ref.Transport == reference.OCIArchive {
		return layoutSource(a, ref.Name, want)
	}
	list, err := dockerManifests(a)
	if err != nil {
		return nil, err
	}
	d, err := pickDocker(list, ref.Name)
	if err != nil {
		return nil, err
	}
	return s.dockerSource(ctx, a, d)
}

// fresh tells whether a stored image is still what its source has, as far as
// that can be told cheaply: tags in a registry are believed.
func (s *Store) fresh(ref reference.Reference, img *Image) bool {
	switch ref.Transport {
	case reference.OCI:
		src, err := layoutSource(dirFiles(ref.Path), ref.Name, nil)
		return err == nil && src.desc.Digest == img.Digest
	case reference.OCIArchive, reference.DockerArchive:
		now := stamp(ref.Path)
		return now != "" && now == img.desc.Annotations[stampKey]
	}
	return true
}

// stamp changes when a file does.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d-%d-%d-%d", st.Dev, st.Ino, st.Size, info.ModTime().UnixNano())
}

func notFound(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrNotFound)...)
}
