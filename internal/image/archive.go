package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/image/layer"
)

// Archives have a few files for each layer.
const (
	maxArchiveEntries = 100_000
	maxArchiveLinks   = 8
)

// archive gives access to the files of a tar archive by name.
type archive struct {
	file    *os.File
	name    string
	members map[string]member
	spool   *temp
}

// member is a file in an archive, or a link to one.
type member struct {
	offset, size int64
	link         string
}

func (a *archive) where() string { return a.name }

// Close closes the archive and removes its unpacked copy, if one was made.
func (a *archive) Close() {
	if a.spool != nil {
		a.spool.discard()
		return
	}
	_ = a.file.Close()
}

// openArchive reads the table of contents of an archive. A compressed one is
// first unpacked into the store's temporary directory.
func (s *Store) openArchive(ctx context.Context, name string) (*archive, error) {
	f, err := os.Open(name)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
		}
		return nil, err
	}
	a := &archive{file: f, name: name}
	if err := s.unpackArchive(ctx, a); err != nil {
		a.Close()
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	if err := a.scan(ctx); err != nil {
		a.Close()
		return nil, fmt.Errorf("%s is no archive of an image: %w: %w", name, err, errdefs.ErrInvalidArgument)
	}
	return a, nil
}

func (s *Store) unpackArchive(ctx context.Context, a *archive) error {
	if layer.Detect(bufio.NewReader(a.file)) == layer.None {
		_, err := a.file.Seek(0, io.SeekStart)
		return err
	}
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	defer a.file.Close()
	t, err := s.temp()
	if err != nil {
		return err
	}
	a.spool = t
	if err := s.spool(ctx, t, a.file); err != nil {
		return err
	}
	a.file = t.File
	_, err = a.file.Seek(0, io.SeekStart)
	return err
}

func (s *Store) spool(ctx context.Context, w io.Writer, r io.Reader) error {
	z, err := layer.Decompress(&counter{ctx: ctx, r: r})
	if err != nil {
		return err
	}
	defer z.Close()
	limit := s.limits.UnpackedBytes
	if limit <= 0 {
		_, err = io.Copy(w, z)
		return err
	}
	n, err := io.Copy(w, io.LimitReader(z, limit+1))
	if err == nil && n > limit {
		return &layer.LimitError{Option: "storage.max_unpacked_gib", What: "bytes in its archive", Limit: limit}
	}
	return err
}

// scan notes where each file is. The reader skips contents by seeking.
func (a *archive) scan(ctx context.Context) error {
	a.members = map[string]member{}
	r := tar.NewReader(a.file)
	for range maxArchiveEntries {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.note(h); err != nil {
			return err
		}
	}
	return fmt.Errorf("it has more than %d files", maxArchiveEntries)
}

func (a *archive) note(h *tar.Header) error {
	name := path.Clean("/" + h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
		offset, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		a.members[name] = member{offset: offset, size: h.Size}
	case tar.TypeSymlink:
		a.members[name] = member{link: path.Join(path.Dir(name), h.Linkname)}
	case tar.TypeLink:
		a.members[name] = member{link: path.Clean("/" + h.Linkname)}
	}
	return nil
}

func (a *archive) open(name string) (io.ReadCloser, error) {
	at := path.Clean("/" + name)
	for range maxArchiveLinks {
		m, ok := a.members[at]
		switch {
		case !ok:
			return nil, fmt.Errorf("%s has no file %q: %w", a.name, name, os.ErrNotExist)
		case m.link == "":
			return io.NopCloser(io.NewSectionReader(a.file, m.offset, m.size)), nil
		}
		at = m.link
	}
	return nil, fmt.Errorf("%s: file %q is behind too many links", a.name, name)
}
