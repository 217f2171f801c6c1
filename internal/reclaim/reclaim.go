// Package reclaim gives host memory of an idle process back: pages that are
// only a copy of what a file holds anyway.
//
// It owns the finding and handing back of such pages. When a process counts
// as idle is for its owner to say.
package reclaim

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FilePages asks the kernel to take back the pages of files that process pid
// has mapped: code it ran once, and files it read once, such as the kernel
// and initramfs that QEMU maps for as long as it runs. A page that is needed
// again is read again; one that another process uses too stays. It needs root
// and a kernel with process_madvise (Linux 5.10).
func FilePages(pid int) error {
	// A stranger that has got the number would at worst be paged in again.
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("reclaim memory of process %d: %w", pid, err)
	}
	defer unix.Close(pidfd)
	maps, err := os.Open("/proc/" + strconv.Itoa(pid) + "/maps")
	if err != nil {
		return fmt.Errorf("reclaim memory of process %d: %w", pid, err)
	}
	defer maps.Close()
	areas, err := fileAreas(maps)
	if err != nil {
		return fmt.Errorf("reclaim memory of process %d: %w", pid, err)
	}
	for _, a := range areas {
		if err := pageOut(pidfd, a); err != nil {
			return fmt.Errorf("reclaim memory of process %d: %w", pid, err)
		}
	}
	return nil
}

// area is a range of a process's addresses.
type area struct{ start, end uint64 }

// fileAreas finds the private mappings of files in a maps file of proc(5).
// Shared ones are memory, such as a guest's.
func fileAreas(maps io.Reader) ([]area, error) {
	var areas []area
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || !strings.HasSuffix(fields[1], "p") || fields[4] == "0" {
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
