package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/layer"
)

// rootfsName is the same for all images with the same layers, and changes with
// the converter.
func rootfsName(diffs []digest.Digest) string {
	chain := identity.ChainID(diffs)
	if chain == "" { // an image without layers
		chain = digest.FromString("")
	}
	return fmt.Sprintf("%s-v%d.erofs", chain.Encoded(), layer.Version)
}

func (s *Store) rootfsPath(diffs []digest.Digest) string {
	return s.path("erofs", rootfsName(diffs))
}

// convert makes the EROFS file of an image unless it is there. Of several
// processes one makes it, the others wait.
func (s *Store) convert(ctx context.Context, img *Image, p *progress) error {
	path := s.rootfsPath(img.diffs)
	if exists(path) {
		return nil
	}
	l, err := waitLock(ctx, s.path("locks", "chain-"+rootfsName(img.diffs)), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer l.remove()
	if exists(path) {
		return nil
	}
	t, err := s.temp()
	if err != nil {
		return err
	}
	defer t.discard()
	if err := s.flatten(ctx, t.File, img, p); err != nil {
		return err
	}
	return t.place(path, 0o400)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (s *Store) flatten(ctx context.Context, f *os.File, img *Image, p *progress) error {
	b, err := layer.NewBuilder(f, s.limits)
	if err != nil {
		return err
	}
	for i, desc := range img.layers {
		if err := s.applyLayer(ctx, b, desc, img.diffs[i], p.layer(StepUnpack, desc)); err != nil {
			return fmt.Errorf("unpack layer %d of %d (%s): %w", i+1, len(img.layers), desc.Digest, err)
		}
	}
	sum := sha256.Sum256([]byte(rootfsName(img.diffs)))
	_, err = b.Finish([16]byte(sum[:16]))
	return err
}

func (s *Store) applyLayer(ctx context.Context, b *layer.Builder, desc ocispec.Descriptor, want digest.Digest, note func(int64)) error {
	f, err := os.Open(s.blobPath(desc.Digest))
	if err != nil {
		return err
	}
	defer f.Close()
	blob := newVerifier(desc, f)
	got, err := b.Apply(ctx, blob, note)
	if err != nil {
		return blame(err, blob, f.Name())
	}
	if got != want {
		return fmt.Errorf("its content has the digest %s, the configuration says %s: %w", got, want, errdefs.ErrDataLoss)
	}
	return nil
}

// blame finds out whether a layer could not be applied because its blob went
// bad on disk. Such a blob is dropped, so that it can be fetched again.
func blame(err error, blob io.Reader, path string) error {
	_, rest := io.Copy(io.Discard, blob)
	if errors.Is(rest, errdefs.ErrDataLoss) {
		err = rest
	}
	if errors.Is(err, errdefs.ErrDataLoss) {
		_ = os.Remove(path)
	}
	return err
}

// Acquire opens the EROFS file of an image and marks it as used: as long as
// the file, or a duplicate of it in another process, is open, [Store.Remove]
// refuses to delete it.
func (s *Store) Acquire(ctx context.Context, img *Image) (*os.File, error) {
	for {
		f, err := os.Open(img.RootFS)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("image %s was removed: %w", img.Ref, errdefs.ErrNotFound)
		}
		if err != nil {
			return nil, fmt.Errorf("open image %s: %w", img.Ref, err)
		}
		if err = flock(f, unix.LOCK_SH); err == nil && named(f, img.RootFS) {
			return f, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, errBusy) {
			return nil, err
		}
		// A removal is looking at the file, or has just replaced it.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
