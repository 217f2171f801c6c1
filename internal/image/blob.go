package image

import (
	"context"
	_ "crypto/sha512" // a digest that registries may use
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Manifests and configurations are read into memory, so they have a limit.
const maxDocument = 8 << 20

// open opens a blob at its source, from the start.
type opener func(ctx context.Context) (io.ReadCloser, error)

func (s *Store) blobPath(d digest.Digest) string {
	return s.path("oci/blobs", d.Algorithm().String(), d.Encoded())
}

func (s *Store) hasBlob(desc ocispec.Descriptor) bool {
	info, err := os.Stat(s.blobPath(desc.Digest))
	return err == nil && info.Mode().IsRegular() && info.Size() == desc.Size
}

// putBlob copies a blob into the store unless it is there. Digest and size are
// verified on the way. Of several processes one copies, the others wait.
func (s *Store) putBlob(ctx context.Context, desc ocispec.Descriptor, open opener, note func(int64)) error {
	if err := checkDescriptor(desc); err != nil {
		return err
	}
	if s.hasBlob(desc) {
		return nil
	}
	l, err := waitLock(ctx, s.path("locks", "blob-"+desc.Digest.Encoded()), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer l.remove()
	if s.hasBlob(desc) {
		return nil
	}
	return s.copyBlob(ctx, desc, open, note)
}

func (s *Store) copyBlob(ctx context.Context, desc ocispec.Descriptor, open opener, note func(int64)) error {
	r, err := open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	t, err := s.temp()
	if err != nil {
		return err
	}
	defer t.discard()
	v := newVerifier(desc, &counter{ctx: ctx, r: r, note: note})
	if _, err := io.Copy(t, v); err != nil {
		return err
	}
	return t.place(s.blobPath(desc.Digest), 0o400)
}

// readBlob reads a manifest or a configuration from the store.
func (s *Store) readBlob(desc ocispec.Descriptor) ([]byte, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(desc.Digest))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readVerified(f, desc)
	if errors.Is(err, errdefs.ErrDataLoss) {
		_ = os.Remove(f.Name()) // so that it can be fetched again
	}
	return b, err
}

// readVerified reads a document that desc describes.
func readVerified(r io.Reader, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxDocument {
		return nil, fmt.Errorf("document %s has %d bytes, more than the %d that one may have: %w",
			desc.Digest, desc.Size, maxDocument, errdefs.ErrResourceExhausted)
	}
	return io.ReadAll(newVerifier(desc, r))
}

func checkDescriptor(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %.100q: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
	}
	if desc.Size < 0 {
		return fmt.Errorf("blob %s has a size of %d bytes: %w", desc.Digest, desc.Size, errdefs.ErrInvalidArgument)
	}
	return nil
}

// verifier passes content on, and fails where it should end if digest or size
// are others than promised.
type verifier struct {
	desc ocispec.Descriptor
	r    io.Reader
	sum  digest.Digester
	n    int64
}

func newVerifier(desc ocispec.Descriptor, r io.Reader) *verifier {
	return &verifier{desc: desc, r: r, sum: desc.Digest.Algorithm().Digester()}
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.n += int64(n)
	_, _ = v.sum.Hash().Write(p[:n])
	switch {
	case v.n > v.desc.Size:
		return n, fmt.Errorf("blob is corrupt: it has more than its %d bytes: %w", v.desc.Size, errdefs.ErrDataLoss)
	case err == io.EOF: // readers give it bare
		return n, v.check()
	}
	return n, err
}

func (v *verifier) check() error {
	if v.n < v.desc.Size {
		return fmt.Errorf("blob is cut off: it has %d bytes of %d: %w", v.n, v.desc.Size, errdefs.ErrDataLoss)
	}
	if got := v.sum.Digest(); got != v.desc.Digest {
		return fmt.Errorf("blob is corrupt: its digest is %s, it must be %s: %w", got, v.desc.Digest, errdefs.ErrDataLoss)
	}
	return io.EOF
}

// counter reports progress and stops when ctx is done.
type counter struct {
	ctx  context.Context
	r    io.Reader
	n    int64
	note func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.note != nil {
		c.note(c.n)
	}
	return n, err
}
