// Package imagetest builds small images from Go: layers entry by entry, a
// configuration, and OCI layouts or docker archives around them. Tests use it,
// and so does the command that turns Debian's busybox into an image.
//
// It writes images and reads none.
package imagetest

import (
	"archive/tar"
	"bytes"
	_ "crypto/sha256" // for go-digest
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Epoch is the time of all files that are given none, so that images are the
// same on each build.
var Epoch = time.Unix(1_700_000_000, 0)

// Layer collects the entries of one layer. Its methods give the layer itself,
// so that calls can be chained; the first error is kept until the layer is
// used. It is made by [NewLayer].
type Layer struct {
	// MediaType is that of an OCI layer and decides the compression; empty is
	// gzip.
	MediaType string

	buf bytes.Buffer
	tw  *tar.Writer
	// modes are those of the entries, by name.
	modes map[string]int64
	err   error
}

// NewLayer starts an empty layer.
func NewLayer() *Layer {
	l := &Layer{modes: make(map[string]int64)}
	l.tw = tar.NewWriter(&l.buf)
	return l
}

// Add adds an entry of any kind. Size, format and, if unset, time are filled in.
func (l *Layer) Add(h tar.Header, content string) *Layer {
	if h.ModTime.IsZero() {
		h.ModTime = Epoch
	}
	h.Size = int64(len(content))
	l.modes[h.Name] = h.Mode
	if l.err == nil {
		l.err = l.tw.WriteHeader(&h)
	}
	if l.err == nil {
		_, l.err = io.WriteString(l.tw, content)
	}
	return l
}

// File adds a regular file.
func (l *Layer) File(name string, mode int64, content string) *Layer {
	return l.Add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, content)
}

// Dir adds a directory.
func (l *Layer) Dir(name string, mode int64) *Layer {
	return l.Add(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}, "")
}

// Symlink adds a symbolic link.
func (l *Layer) Symlink(name, target string) *Layer {
	return l.Add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, "")
}

// Link adds a hard link. Its header has the mode of its target, as tar writes
// it: some who unpack set it anew.
func (l *Layer) Link(name, target string) *Layer {
	mode, known := l.modes[target]
	if !known {
		mode = 0o644
	}
	return l.Add(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: mode}, "")
}

// Whiteout removes a file of a lower layer. The name is that of the marker,
// as in etc/.wh.motd.
func (l *Layer) Whiteout(name string) *Layer { return l.File(name, 0, "") }

// HostFile adds a file of the host.
func (l *Layer) HostFile(name string, mode int64, path string) *Layer {
	b, err := os.ReadFile(path)
	if err != nil && l.err == nil {
		l.err = err
	}
	return l.File(name, mode, string(b))
}

// Tar ends the layer and gives it uncompressed.
func (l *Layer) Tar() ([]byte, error) {
	if l.err == nil {
		l.err = l.tw.Close()
	}
	return l.buf.Bytes(), l.err
}

// blob gives the layer as it is stored, and the digest of its content.
func (l *Layer) blob() (ocispec.Descriptor, []byte, digest.Digest, error) {
	plain, err := l.Tar()
	if err != nil {
		return ocispec.Descriptor{}, nil, "", fmt.Errorf("write layer: %w", err)
	}
	mediaType := l.MediaType
	if mediaType == "" {
		mediaType = ocispec.MediaTypeImageLayerGzip
	}
	packed, err := pack(mediaType, plain)
	return describe(mediaType, packed), packed, digest.FromBytes(plain), err
}

func pack(mediaType string, b []byte) ([]byte, error) {
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch mediaType {
	case ocispec.MediaTypeImageLayer:
		return b, nil
	case ocispec.MediaTypeImageLayerZstd:
		w, err = zstd.NewWriter(&out)
	default:
		w = gzip.NewWriter(&out)
	}
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

func describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}
