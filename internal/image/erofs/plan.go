package erofs

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// plan is where an inode and its content go in the image.
type plan struct {
	seen   bool
	parent *Inode // directories only
	nlink  uint32
	ino    uint32
	nid    uint64
	layout int
	size   int64
	union  uint32 // block, device or chunk format, by type
	xattrs []byte
	list   []dirent // directories only
	full   uint32   // blocks to be written before the metadata
	tail   int      // bytes of content beside the inode
}

// headLen is the length of what precedes an inline tail.
func (p *plan) headLen() int64 { return int64(inodeSize + len(p.xattrs)) }

// collect walks the tree breadth first, counts links and gives every inode
// once, the root first.
func collect(root *Inode) ([]*Inode, error) {
	root.plan = plan{seen: true, parent: root, nlink: 2}
	all := []*Inode{root}
	for i := 0; i < len(all); i++ {
		dir := all[i]
		if !dir.IsDir() {
			continue
		}
		list, err := dirents(dir, dir.plan.parent)
		if err != nil {
			return nil, err
		}
		dir.plan.list = list
		for _, d := range list {
			if d.name == "." || d.name == ".." {
				continue
			}
			if all, err = visit(all, dir, d); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func visit(all []*Inode, dir *Inode, d dirent) ([]*Inode, error) {
	n := d.inode
	if n.IsDir() {
		if n.plan.seen {
			return nil, fmt.Errorf("directory %q is linked twice", d.name)
		}
		n.plan = plan{seen: true, parent: dir, nlink: 2}
		dir.plan.nlink++
		return append(all, n), nil
	}
	n.plan.nlink++
	if n.plan.seen {
		return all, nil
	}
	n.plan.seen = true
	return append(all, n), nil
}

// prepare decides the layout of one inode's content.
func (n *Inode) prepare() error {
	p := &n.plan
	var err error
	if p.xattrs, err = encodeXattrs(n.Xattrs); err != nil {
		return err
	}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		p.place(dirSize(p.list))
	case unix.S_IFLNK:
		if n.Target == "" || len(n.Target) > TargetMax {
			return fmt.Errorf("symbolic link target has %d bytes: it must have 1 to %d", len(n.Target), TargetMax)
		}
		p.place(int64(len(n.Target)))
	case unix.S_IFREG:
		n.prepareFile()
	case unix.S_IFCHR, unix.S_IFBLK:
		p.union = n.Rdev
	case unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return fmt.Errorf("mode %#o is of no known file type", n.Mode)
	}
	return nil
}

func (n *Inode) prepareFile() {
	p, d := &n.plan, n.Data
	if d == nil {
		return
	}
	d.live = true
	p.size = d.size
	switch {
	case d.inline != nil:
		p.place(d.size)
	case d.chunks != nil:
		p.layout = layoutChunk
		p.union = uint32(d.bits - blockBits)
	default:
		p.union = d.addr
	}
}

// place puts content that is known only now: whole blocks go before the
// metadata, a tail beside the inode where it fits in one block with it.
func (p *plan) place(size int64) {
	p.size = size
	p.full = uint32(size / blockSize)
	p.tail = int(size % blockSize)
	if p.tail == 0 {
		return
	}
	// The worst place for a tail is after a head that starts a block.
	if p.headLen()%blockSize+int64(p.tail) > blockSize {
		p.full++
		p.tail = 0
		return
	}
	p.layout = layoutInline
}

// position gives the inode's offset in the metadata area at or after at, and
// where the next may start. Neither the inode nor its inline tail may cross a
// block.
func (n *Inode) position(at int64) (start, end int64) {
	p := &n.plan
	start = roundUp(at, int64(slotSize))
	crosses := func() bool {
		head := start%blockSize+inodeSize > blockSize
		tail := (start+p.headLen())%blockSize+int64(p.tail) > blockSize
		return head || tail && p.tail > 0
	}
	if crosses() {
		start = roundUp(start, int64(blockSize))
	}
	end = start + p.headLen() + int64(p.tail)
	if p.layout == layoutChunk {
		end = roundUp(end, int64(chunkUnit)) + int64(len(n.Data.chunks)*chunkUnit)
	}
	return start, end
}
