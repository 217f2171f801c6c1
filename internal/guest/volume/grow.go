package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// growExt4 is the kernel's EXT4_IOC_RESIZE_FS: it takes the number of blocks.
const growExt4 = 0x40086610

// devices is where what becomes of devices is waited for.
type devices interface {
	Await(ctx context.Context, try func() (bool, error)) error
}

// Grow waits until the disk that a volume is on has a size, and makes the file
// system as large.
func (s *Store) Grow(ctx context.Context, name string, size uint64, from devices) error {
	if err := checkName(name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	defer func() { _ = dir.Close() }()
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	if fs.Type != unix.EXT4_SUPER_MAGIC {
		return fmt.Errorf("volume %q: only ext4 grows while it is mounted: %w", name, errdefs.ErrNotImplemented)
	}
	disk := fmt.Sprintf("/sys/dev/block/%d:%d/size", unix.Major(st.Dev), unix.Minor(st.Dev))
	err = from.Await(ctx, func() (bool, error) {
		is, err := sectors(disk)
		return is*512 >= size, err
	})
	if err != nil {
		return fmt.Errorf("volume %q: wait for its disk to grow: %w", name, err)
	}
	blocks := size / uint64(fs.Bsize)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), growExt4, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return fmt.Errorf("volume %q: grow its file system: %w", name, errno)
	}
	return nil
}

// sectors reads a disk's size.
func sectors(file string) (uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
}
