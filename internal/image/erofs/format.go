package erofs

import (
	"encoding/binary"
	"hash/crc32"
)

// The on-disk format, from the kernel's documentation
// (Documentation/filesystems/erofs.rst). All numbers are little endian.
const (
	blockBits = 12
	blockSize = 1 << blockBits

	superOffset = 1024
	superMagic  = 0xe0f5e1e2

	compatChecksum  = 0x1
	compatMtime     = 0x2
	incompatChunked = 0x4

	slotSize  = 32 // an inode number is an offset in these
	inodeSize = 64 // always the extended form: compact inodes have no mtime
	entrySize = 12
	chunkUnit = 4 // bytes of one entry of a chunk map

	layoutPlain  = 0
	layoutInline = 2
	layoutChunk  = 4

	// NameMax and TargetMax are Linux's limits in bytes.
	NameMax   = 255
	TargetMax = 4095

	nullBlock = 0xffffffff
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

type superblock struct {
	rootNid   uint16
	inodes    uint64
	blocks    uint32
	metaBlock uint32
	uuid      [16]byte
	chunked   bool
}

// encode gives the image's first block.
func (s *superblock) encode() []byte {
	block := make([]byte, blockSize)
	b := block[superOffset:]
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[8:], compatChecksum|compatMtime)
	b[12] = blockBits
	le.PutUint16(b[14:], s.rootNid)
	le.PutUint64(b[16:], s.inodes)
	le.PutUint32(b[36:], s.blocks)
	le.PutUint32(b[40:], s.metaBlock)
	copy(b[48:64], s.uuid[:])
	if s.chunked {
		le.PutUint32(b[80:], incompatChunked)
	}
	// The kernel's crc32c has no final inversion.
	le.PutUint32(b[4:], ^crc32.Checksum(b, castagnoli))
	return block
}

// encodeInode writes the 64 bytes of an extended inode.
func encodeInode(b []byte, n *Inode) {
	p := &n.plan
	le.PutUint16(b[0:], 1|uint16(p.layout)<<1)
	le.PutUint16(b[2:], xattrCount(p.xattrs))
	le.PutUint16(b[4:], uint16(n.Mode))
	le.PutUint64(b[8:], uint64(p.size))
	le.PutUint32(b[16:], p.union)
	le.PutUint32(b[20:], p.ino)
	le.PutUint32(b[24:], n.UID)
	le.PutUint32(b[28:], n.GID)
	le.PutUint64(b[32:], uint64(n.Mtime))
	le.PutUint32(b[40:], n.MtimeNsec)
	le.PutUint32(b[44:], p.nlink)
}

func roundUp[T int | int64](n, to T) T { return (n + to - 1) / to * to }
