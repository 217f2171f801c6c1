package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/erofs"
)

// Version numbers the way layers become images. It changes whenever the same
// layers would give another image, so that old ones are made anew.
const Version = 1

// Builder flattens layers into one EROFS image. It is not safe for concurrent
// use, and useless after an error.
type Builder struct {
	out  *erofs.Writer
	tree tree
	use  usage
}

// NewBuilder starts an image in an empty file.
func NewBuilder(f *os.File, limits Limits) (*Builder, error) {
	out, err := erofs.NewWriter(f)
	if err != nil {
		return nil, err
	}
	b := &Builder{out: out, use: usage{limits: limits}}
	b.tree = tree{root: newDir(), use: &b.use}
	return b, nil
}

// Apply adds the next layer, the lowest first: a tar archive, plain or
// compressed by gzip or zstd. It gives the digest of the uncompressed archive,
// which the caller must compare with the image's configuration. progress, if
// not nil, is told the bytes of r consumed so far.
func (b *Builder) Apply(ctx context.Context, r io.Reader, progress func(int64)) (digest.Digest, error) {
	b.tree.layer++
	in := &input{ctx: ctx, r: r, note: progress}
	z, err := Decompress(in)
	if err != nil {
		return "", err
	}
	defer z.Close()
	sum := sha256.New()
	stream := io.TeeReader(&output{r: z, in: in, use: &b.use}, sum)
	if err := b.applyTar(tar.NewReader(stream)); err != nil {
		return "", err
	}
	// The digest covers what follows the archive's end, too.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, sum), nil
}

// Finish writes the image's metadata. id marks the image (its superblock's
// UUID) and must depend on the layers alone, so that builds are reproducible.
func (b *Builder) Finish(id [16]byte) (erofs.Stats, error) {
	return b.out.Finish(b.tree.root, id)
}

func (b *Builder) applyTar(r *tar.Reader) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("read tar: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := b.applyEntry(h, r); err != nil {
			return fmt.Errorf("entry %.200q: %w", h.Name, err)
		}
	}
}

func (b *Builder) applyEntry(h *tar.Header, content io.Reader) error {
	if err := b.use.addEntry(metadataSize(h)); err != nil {
		return err
	}
	parts, err := splitPath(h.Name)
	if err != nil {
		return err
	}
	if done, err := b.tree.hide(parts); done || err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return b.tree.link(parts, h.Linkname)
	}
	n, err := inode(h)
	if err != nil {
		return err
	}
	if err := b.fill(n, h, content); err != nil {
		return err
	}
	return b.tree.add(parts, n)
}

func (b *Builder) fill(n *erofs.Inode, h *tar.Header, content io.Reader) error {
	if n.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	if err := b.use.addFile(h.Size); err != nil {
		return err
	}
	var err error
	n.Data, err = b.out.Data(content, h.Size)
	return err
}
