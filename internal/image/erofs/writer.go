package erofs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// firstSlot leaves inode number 0 unused: user space takes it for "no file".
const firstSlot = 2 * slotSize

// Writer makes one image. It is not safe for concurrent use.
type Writer struct {
	file    *os.File
	out     *bufio.Writer
	next    uint32 // block where the next data goes
	inlined int64
	buf     []byte
	data    []*Data
}

// Stats tells what an image holds.
type Stats struct {
	Inodes int
	// Bytes is the length of the image.
	Bytes int64
}

// NewWriter starts an image in an empty file. The file stays the caller's to
// sync and close.
func NewWriter(f *os.File) (*Writer, error) {
	if _, err := f.Seek(blockSize, io.SeekStart); err != nil {
		return nil, err
	}
	return &Writer{file: f, out: bufio.NewWriterSize(f, 1<<20), next: 1}, nil
}

// Finish writes the tree below root and the superblock with the given volume
// id. The tree must not be used for another image. Content that no inode of
// the tree refers to is given back to the file system.
func (w *Writer) Finish(root *Inode, uuid [16]byte) (Stats, error) {
	if !root.IsDir() {
		return Stats{}, errors.New("root of an image must be a directory")
	}
	all, err := collect(root)
	if err != nil {
		return Stats{}, err
	}
	sb := superblock{inodes: uint64(len(all)), uuid: uuid}
	metaLen, err := w.layout(all, &sb)
	if err != nil {
		return Stats{}, err
	}
	if err := w.writeBodies(all); err != nil {
		return Stats{}, err
	}
	if err := w.writeMeta(all, metaLen); err != nil {
		return Stats{}, err
	}
	return w.seal(&sb, len(all))
}

// layout numbers the inodes and places their content.
func (w *Writer) layout(all []*Inode, sb *superblock) (int64, error) {
	at, next := int64(firstSlot), int64(w.next)
	for i, n := range all {
		if err := n.prepare(); err != nil {
			return 0, err
		}
		p := &n.plan
		if p.full > 0 {
			p.union = uint32(next)
			next += int64(p.full)
		}
		var start int64
		start, at = n.position(at)
		p.nid = uint64(start / slotSize)
		p.ino = uint32(i + 1)
		sb.chunked = sb.chunked || p.layout == layoutChunk
	}
	metaLen := roundUp(at, int64(blockSize))
	if next+metaLen/blockSize >= math.MaxUint32 {
		return 0, fmt.Errorf("image grows over the %d TiB that EROFS can address", 16)
	}
	sb.rootNid = uint16(all[0].plan.nid)
	sb.metaBlock = uint32(next)
	sb.blocks = uint32(next + metaLen/blockSize)
	return metaLen, nil
}

// body gives the content of a directory, a symbolic link or a small file.
func (n *Inode) body() []byte {
	switch {
	case n.IsDir():
		return encodeDir(n.plan.list, n.plan.size)
	case n.Mode&unix.S_IFMT == unix.S_IFLNK:
		return []byte(n.Target)
	case n.Data != nil:
		return n.Data.inline
	}
	return nil
}

func (w *Writer) writeBodies(all []*Inode) error {
	for _, n := range all {
		if n.plan.full == 0 {
			continue
		}
		b := n.body()
		if err := w.appendBlocks(b[:len(b)-n.plan.tail]); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) writeMeta(all []*Inode, metaLen int64) error {
	at := int64(0)
	put := func(to int64, b []byte) error {
		for at < to {
			n, err := w.out.Write(zeros[:min(to-at, int64(len(zeros)))])
			if err != nil {
				return err
			}
			at += int64(n)
		}
		n, err := w.out.Write(b)
		at += int64(n)
		return err
	}
	for _, n := range all {
		if err := put(int64(n.plan.nid)*slotSize, n.encode()); err != nil {
			return err
		}
	}
	return put(metaLen, nil)
}

// encode gives an inode with everything that stands beside it.
func (n *Inode) encode() []byte {
	p := &n.plan
	b := make([]byte, inodeSize, p.headLen()+int64(p.tail))
	encodeInode(b, n)
	b = append(b, p.xattrs...)
	if p.tail > 0 {
		body := n.body()
		b = append(b, body[len(body)-p.tail:]...)
	}
	if p.layout == layoutChunk {
		for _, c := range n.Data.chunks {
			b = le.AppendUint32(b, c)
		}
	}
	return b
}

func (w *Writer) seal(sb *superblock, inodes int) (Stats, error) {
	if err := w.out.Flush(); err != nil {
		return Stats{}, err
	}
	if _, err := w.file.WriteAt(sb.encode(), 0); err != nil {
		return Stats{}, err
	}
	w.punch()
	return Stats{Inodes: inodes, Bytes: int64(sb.blocks) * blockSize}, nil
}

// punch frees the blocks of content that was replaced by a later layer. A file
// system that cannot do it only wastes the space.
func (w *Writer) punch() {
	for _, d := range w.data {
		if d.live || d.blocks == 0 {
			continue
		}
		_ = unix.Fallocate(int(w.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE,
			int64(d.addr)*blockSize, int64(d.blocks)*blockSize)
	}
}
