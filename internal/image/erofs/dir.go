package erofs

import (
	"fmt"
	"maps"
	"slices"
)

// dirent is a directory entry whose inode number is not known before layout.
type dirent struct {
	name  string
	inode *Inode
}

// dirents gives a directory's entries with "." and "..", in the byte order
// that the kernel's binary search asks for.
func dirents(dir, parent *Inode) ([]dirent, error) {
	list := make([]dirent, 0, len(dir.Entries)+2)
	list = append(list, dirent{".", dir}, dirent{"..", parent})
	for _, name := range slices.Sorted(maps.Keys(dir.Entries)) {
		if name == "" || len(name) > NameMax {
			return nil, fmt.Errorf("name %.40q… has %d bytes: a file name has 1 to %d", name, len(name), NameMax)
		}
		list = append(list, dirent{name, dir.Entries[name].Inode})
	}
	slices.SortStableFunc(list, func(a, b dirent) int {
		switch {
		case a.name < b.name:
			return -1
		case a.name > b.name:
			return 1
		}
		return 0
	})
	return list, nil
}

// dirSize is the length of a directory's content: full blocks, then a tail.
func dirSize(list []dirent) int64 {
	var full, used int64
	for _, d := range list {
		need := int64(entrySize + len(d.name))
		if used+need > blockSize {
			full += blockSize
			used = 0
		}
		used += need
	}
	return full + used
}

// encodeDir gives a directory's content. Layout must have numbered the inodes.
func encodeDir(list []dirent, size int64) []byte {
	out := make([]byte, size)
	rest := out
	for len(list) > 0 {
		n, used := 0, 0
		for n < len(list) && used+entrySize+len(list[n].name) <= blockSize {
			used += entrySize + len(list[n].name)
			n++
		}
		encodeDirBlock(rest, list[:n])
		list = list[n:]
		if len(list) > 0 {
			rest = rest[blockSize:]
		}
	}
	return out
}

func encodeDirBlock(b []byte, list []dirent) {
	at := len(list) * entrySize
	for i, d := range list {
		e := b[i*entrySize:]
		le.PutUint64(e[0:], d.inode.plan.nid)
		le.PutUint16(e[8:], uint16(at))
		e[10] = d.inode.fileType()
		at += copy(b[at:], d.name)
	}
}
