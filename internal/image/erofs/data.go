package erofs

import (
	"bytes"
	"fmt"
	"io"
	"math"
)

const (
	// Small files go beside their inode: one read gives both and no block is
	// wasted. They wait in memory, so there is a budget for all of them.
	inlineMax    = 2048
	inlineBudget = 64 << 20

	minChunkBits = 16
	maxChunks    = 1 << 16
)

var zeros [1 << minChunkBits]byte

// Data copies exactly size bytes of r into the image as the content of one
// file. Long stretches of zeros become holes.
func (w *Writer) Data(r io.Reader, size int64) (*Data, error) {
	switch {
	case size < 0:
		return nil, fmt.Errorf("file size %d is negative", size)
	case size == 0:
		return nil, nil //nolint:nilnil // no content is nil, see Inode.Data
	case size <= inlineMax && w.inlined+size <= inlineBudget:
		return w.inlineData(r, size)
	}
	d := &Data{size: size, bits: chunkBits(size)}
	start := w.next
	if err := w.copyChunks(d, r); err != nil {
		return nil, err
	}
	d.addr, d.blocks = start, w.next-start
	w.data = append(w.data, d)
	return d, nil
}

func (w *Writer) inlineData(r io.Reader, size int64) (*Data, error) {
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, short(err)
	}
	w.inlined += size
	return &Data{size: size, inline: b}, nil
}

func (w *Writer) copyChunks(d *Data, r io.Reader) error {
	chunk := int64(1) << d.bits
	if int64(cap(w.buf)) < chunk {
		w.buf = make([]byte, chunk)
	}
	for off := int64(0); off < d.size; off += chunk {
		b := w.buf[:min(chunk, d.size-off)]
		if _, err := io.ReadFull(r, b); err != nil {
			return short(err)
		}
		if err := w.addChunk(d, b, off>>d.bits); err != nil {
			return err
		}
	}
	return nil
}

// addChunk writes one chunk. The map of chunks is made at the first hole;
// before it the content is contiguous.
func (w *Writer) addChunk(d *Data, b []byte, index int64) error {
	hole := allZero(b)
	if hole && d.chunks == nil {
		d.chunks = make([]uint32, 0, (d.size-1)>>d.bits+1)
		for i := range index {
			d.chunks = append(d.chunks, w.next-uint32((index-i)<<(d.bits-blockBits)))
		}
	}
	if hole {
		d.chunks = append(d.chunks, nullBlock)
		return nil
	}
	if d.chunks != nil {
		d.chunks = append(d.chunks, w.next)
	}
	return w.appendBlocks(b)
}

// appendBlocks writes b at the end of the data area, padded to whole blocks.
func (w *Writer) appendBlocks(b []byte) error {
	n := (int64(len(b)) + blockSize - 1) / blockSize
	if int64(w.next)+n >= math.MaxUint32 {
		return fmt.Errorf("image grows over the %d TiB that EROFS can address", 16)
	}
	if _, err := w.out.Write(b); err != nil {
		return err
	}
	if _, err := w.out.Write(zeros[:n*blockSize-int64(len(b))]); err != nil {
		return err
	}
	w.next += uint32(n)
	return nil
}

// chunkBits keeps the map of the largest file small.
func chunkBits(size int64) uint {
	bits := uint(minChunkBits)
	for size>>bits > maxChunks {
		bits++
	}
	return bits
}

func allZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}

func short(err error) error {
	if err == io.EOF { //nolint:errorlint // io.ReadFull gives it bare
		return io.ErrUnexpectedEOF
	}
	return err
}
