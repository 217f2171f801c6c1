package layer

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Windows of more memory are refused; zstd's own tools stop here too.
const zstdWindow = 128 << 20

// Compression of a layer or an archive.
type Compression string

// The compressions that an image may use.
const (
	None Compression = ""
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// Detect looks at the first bytes of r without consuming them.
func Detect(r *bufio.Reader) Compression {
	head, _ := r.Peek(4)
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return Gzip
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd
	}
	return None
}

// Decompress undoes whatever compression r starts with.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	switch Detect(br) {
	case Gzip:
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return z, nil
	case Zstd:
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(br), nil
}

// input counts what is read from a blob and stops when ctx is done.
type input struct {
	ctx  context.Context
	r    io.Reader
	n    int64
	note func(int64)
}

func (i *input) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := i.r.Read(p)
	i.n += int64(n)
	if i.note != nil {
		i.note(i.n)
	}
	return n, err
}

// output checks what comes out of the decompressor against the limits.
type output struct {
	r   io.Reader
	in  *input
	use *usage
	n   int64
}

func (o *output) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	o.n += int64(n)
	if lerr := o.use.addUnpacked(int64(n)); lerr != nil {
		return n, lerr
	}
	if lerr := o.use.checkRatio(o.in.n, o.n); lerr != nil {
		return n, lerr
	}
	return n, err
}
