package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
)

// Memory is a file system in memory that the kubelet has made for a pod. The
// pod's own is in its guest.
type Memory struct {
	// PageSize is that of huge pages in bytes, 0 for a tmpfs.
	PageSize uint64
	// Size is the bound in bytes, 0 for none.
	Size uint64
	// Mode, UID and GID are those of its top directory.
	Mode, UID, GID uint32
	// SubPath is the directory in it that is meant, "" for the top.
	SubPath string
}

// MemoryOf tells whether an empty directory, or the part of one, is a file
// system in memory, and where the volume is. It is not where something else
// than empty directories is in it: then somebody on the host has put it there,
// and the guest is to see that.
func MemoryOf(path string) (m Memory, volume string, ok bool) {
	volume = filepath.Clean(path)
	if KindOf(volume) != Empty {
		if volume = EmptyOfSubPath(volume); volume == "" {
			return m, "", false
		}
		if m.SubPath, ok = below(path, volume); !ok {
			return m, "", false
		}
	}
	var fs unix.Statfs_t
	if !mounted(volume) || unix.Statfs(volume, &fs) != nil {
		return m, "", false
	}
	switch fs.Type {
	case unix.TMPFS_MAGIC:
	case unix.HUGETLBFS_MAGIC:
		m.PageSize = uint64(fs.Bsize)
	default:
		return m, "", false
	}
	m.Size = fs.Blocks * uint64(fs.Bsize)
	var top unix.Stat_t
	if unix.Stat(volume, &top) != nil || !hollow(volume) {
		return m, "", false
	}
	m.Mode, m.UID, m.GID = top.Mode&0o7777, top.Uid, top.Gid
	return m, volume, true
}

// mounted tells whether path is the root of a mount.
func mounted(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	return err == nil && st.Attributes_mask&st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// maxHollow is how many directories are looked at.
const maxHollow = 256

// hollow tells whether there are only directories below dir.
func hollow(dir string) bool {
	left := maxHollow
	return filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		left--
		if err != nil || !d.IsDir() || left < 0 {
			return fmt.Errorf("it is in use")
		}
		return nil
	}) == nil
}

// below is the path of a bind's directory in the file system of a volume.
func below(path, volume string) (string, bool) {
	var at, top unix.Stat_t
	if unix.Stat(path, &at) != nil || unix.Stat(volume, &top) != nil || at.Dev != top.Dev || at.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", false
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", false
	}
	return rootOf(string(table), filepath.Clean(path))
}

// rootOf is what the topmost mount on path shows of its file system.
func rootOf(table, path string) (root string, ok bool) {
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) > 4 && unescape(fields[4]) == path {
			root, ok = strings.Trim(unescape(fields[3]), "/"), true
		}
	}
	return root, ok && (root == "" || filepath.IsLocal(root)) && !strings.Contains(root, "//deleted")
}

// unescape undoes what the kernel does to blanks in its tables.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace

// Mount is how the guest makes its own at target, no larger than the memory that
// it may come to have.
func (m Memory) Mount(target string, most uint64) *agentapi.Mount {
	mount := &agentapi.Mount{Type: "tmpfs", Source: "tmpfs", Target: target, Options: []string{
		"nodev", fmt.Sprintf("mode=%04o", m.Mode), fmt.Sprintf("uid=%d", m.UID), fmt.Sprintf("gid=%d", m.GID),
	}}
	if m.PageSize > 0 {
		mount.Type, mount.Source = "hugetlbfs", "hugetlbfs"
		mount.Options = append(mount.Options, fmt.Sprintf("pagesize=%d", m.PageSize))
	}
	if size := m.Size; size > 0 {
		if most > 0 {
			size = min(size, most)
		}
		mount.Options = append(mount.Options, fmt.Sprintf("size=%d", size))
	}
	return mount
}

// Directories are those on the way to the sub path in the volume, as the kubelet
// has made them on the host, with their owners mapped.
func (m Memory) Directories(volume string, owners idmap.Map) []*agentapi.VolumeChange {
	var changes []*agentapi.VolumeChange
	path := ""
	for part := range strings.SplitSeq(m.SubPath, "/") {
		path = filepath.Join(path, part)
		c := &agentapi.VolumeChange{Path: path, Kind: agentapi.VolumeChange_KIND_DIRECTORY, Mode: 0o755, Missing: true}
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(volume, path), &st) == nil {
			c.Mode, c.Uid, c.Gid, c.MtimeUnixNano = st.Mode&0o7777, st.Uid, st.Gid, st.Mtim.Nano()
		}
		c.Uid, c.Gid = owners.Owner(c.Uid, c.Gid)
		changes = append(changes, c)
	}
	return changes
}
