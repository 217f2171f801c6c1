package layer

import (
	"archive/tar"
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/erofs"
)

const paxXattr = "SCHILY.xattr."

// inode makes what a tar header describes, without content.
func inode(h *tar.Header) (*erofs.Inode, error) {
	n := &erofs.Inode{
		Mode:      uint32(h.Mode) & 0o7777,
		Mtime:     h.ModTime.Unix(),
		MtimeNsec: uint32(h.ModTime.Nanosecond()),
		Xattrs:    xattrs(h),
	}
	if h.ModTime.IsZero() {
		n.Mtime = 0
	}
	var err error
	if n.UID, err = id("uid", h.Uid); err != nil {
		return nil, err
	}
	if n.GID, err = id("gid", h.Gid); err != nil {
		return nil, err
	}
	return n, setType(n, h)
}

func setType(n *erofs.Inode, h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		n.Mode |= unix.S_IFREG
	case tar.TypeDir:
		n.Mode |= unix.S_IFDIR
		n.Entries = map[string]erofs.Entry{}
	case tar.TypeSymlink:
		return setLink(n, h.Linkname)
	case tar.TypeChar:
		n.Mode |= unix.S_IFCHR
		return setDevice(n, h)
	case tar.TypeBlock:
		n.Mode |= unix.S_IFBLK
		return setDevice(n, h)
	case tar.TypeFifo:
		n.Mode |= unix.S_IFIFO
	default:
		return fmt.Errorf("tar entry of unknown type %q", h.Typeflag)
	}
	return nil
}

func setLink(n *erofs.Inode, target string) error {
	if target == "" || len(target) > erofs.TargetMax {
		return fmt.Errorf("symbolic link target has %d bytes: it must have 1 to %d", len(target), erofs.TargetMax)
	}
	n.Mode |= unix.S_IFLNK
	n.Target = target
	return nil
}

func setDevice(n *erofs.Inode, h *tar.Header) error {
	if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
		return fmt.Errorf("device %d:%d is no device number of Linux", h.Devmajor, h.Devminor)
	}
	n.Rdev = erofs.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	return nil
}

// id checks a user or group: the largest 32-bit value means "none" to Linux.
func id(what string, v int) (uint32, error) {
	if v < 0 || int64(v) >= math.MaxUint32 {
		return 0, fmt.Errorf("%s %d is out of range", what, v)
	}
	return uint32(v), nil
}

// xattrs gives the attributes that belong into the image. Those of overlayfs
// are left out: in a lower layer they would be orders to the guest's overlay,
// not content.
func xattrs(h *tar.Header) map[string]string {
	var attrs map[string]string
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || !erofs.XattrSupported(name) || isOverlay(name) {
			continue
		}
		if attrs == nil {
			attrs = map[string]string{}
		}
		attrs[name] = value
	}
	return attrs
}

func isOverlay(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// metadataSize is what an entry takes in memory, roughly.
func metadataSize(h *tar.Header) int {
	n := len(h.Name) + len(h.Linkname)
	for key, value := range h.PAXRecords {
		n += len(key) + len(value)
	}
	return n
}
