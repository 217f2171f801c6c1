package qemu

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TrimMemory gives back the host memory with which QEMU still holds the
// kernel and the initramfs that it booted: it maps both for as long as it
// runs, and never reads them again. Their pages also leave the host's page
// cache unless another machine uses them, so that this is for a machine that
// has settled. It needs root and a kernel with process_madvise (5.10).
func (m *Machine) TrimMemory() error {
	// The process is not reaped before m.process is done, and a stranger with
	// its number would at worst be paged in again.
	pidfd, err := unix.PidfdOpen(m.PID(), 0)
	if err != nil {
		return fmt.Errorf("trim QEMU's memory: %w", err)
	}
	defer unix.Close(pidfd)
	maps, err := os.Open("/proc/" + strconv.Itoa(m.PID()) + "/maps")
	if err != nil {
		return fmt.Errorf("trim QEMU's memory: %w", err)
	}
	defer maps.Close()
	areas, err := bootAreas(maps, m.boot)
	if err != nil {
		return fmt.Errorf("trim QEMU's memory: %w", err)
	}
	for _, a := range areas {
		if err := pageOut(pidfd, a); err != nil {
			return fmt.Errorf("trim QEMU's memory: %w", err)
		}
	}
	return nil
}

// area is a range of QEMU's addresses.
type area struct{ start, end uint64 }

// bootAreas finds where a process maps one of the inodes, in its maps file.
func bootAreas(maps io.Reader, inodes []uint64) ([]area, error) {
	var areas []area
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			continue // mapped from no file
		}
		inode, err := strconv.ParseUint(fields[4], 10, 64)
		if err != nil || inode == 0 || !slices.Contains(inodes, inode) {
			continue
		}
		var a area
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &a.start, &a.end); err != nil {
			return nil, fmt.Errorf("parse %q: %w", fields[0], err)
		}
		areas = append(areas, a)
	}
	return areas, lines.Err()
}

// pageOut asks the kernel to reclaim a range of another process.
func pageOut(pidfd int, a area) error {
	// The vector holds an address of the other process, never used as one of
	// this, so that it is built without a pointer.
	vector := [2]uint64{a.start, a.end - a.start}
	_, _, errno := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(pidfd), uintptr(unsafe.Pointer(&vector)), 1, unix.MADV_PAGEOUT, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// bootInodes are the numbers by which a maps file knows the boot files.
func bootInodes(files ...*os.File) ([]uint64, error) {
	var inodes []uint64
	for _, f := range files {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil, fmt.Errorf("%s has no inode", f.Name())
		}
		inodes = append(inodes, st.Ino)
	}
	return inodes, nil
}
