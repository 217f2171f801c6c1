package erofs

import (
	"golang.org/x/sys/unix"
)

// Inode is one file of any type. Several directory entries may point at one
// Inode: those are hard links. Link counts are computed when the image is
// finished.
type Inode struct {
	// Mode is the type (unix.S_IFMT) and the permission bits, with setuid,
	// setgid and sticky.
	Mode uint32
	UID  uint32
	GID  uint32
	// Mtime is in seconds since 1970 and may be negative.
	Mtime     int64
	MtimeNsec uint32
	// Rdev is the device of a character or block device, see [Mkdev].
	Rdev uint32
	// Target is where a symbolic link points.
	Target string
	// Xattrs holds extended attributes by full name ("user.x"). Names of a
	// namespace that EROFS cannot hold are an error in [Writer.Finish]; ask
	// [XattrSupported] first.
	Xattrs map[string]string
	// Data is the content of a regular file, made by [Writer.Data]. Nil is an
	// empty file.
	Data *Data
	// Entries are the entries of a directory, without "." and "..".
	Entries map[string]Entry

	plan plan
}

// Entry is one name in a directory.
type Entry struct {
	Inode *Inode
	// Layer is for the caller's book-keeping and is not written: the number of
	// the image layer that named this entry last.
	Layer int
}

// Data is the place of a file's content in the image.
type Data struct {
	size   int64
	addr   uint32   // first block, for contiguous content
	blocks uint32   // blocks that the content takes in the image
	inline []byte   // content of a small file, kept to go beside its inode
	chunks []uint32 // block of each chunk or nullBlock, for content with holes
	bits   uint     // log2 of the chunk size
	live   bool
}

// Size is the length of the content in bytes, holes included.
func (d *Data) Size() int64 {
	if d == nil {
		return 0
	}
	return d.size
}

// IsDir tells whether the inode is a directory.
func (n *Inode) IsDir() bool { return n.Mode&unix.S_IFMT == unix.S_IFDIR }

// Mkdev encodes a device number as EROFS stores it.
func Mkdev(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

func (n *Inode) fileType() byte {
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	case unix.S_IFSOCK:
		return 6
	case unix.S_IFLNK:
		return 7
	}
	return 0
}
