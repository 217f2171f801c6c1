package freeze

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// area is a part of a process's memory, as the kernel tells of it.
type area struct {
	start, end uint64
	// prot is of mmap.
	prot   int
	shared bool
	offset uint64
	device uint64
	inode  uint64
	path   string
}

func (a area) size() uint64 { return a.end - a.start }

// kernels says that the area is the kernel's own: code and data by which time is
// read without a system call.
func (a area) kernels() bool {
	return strings.HasPrefix(a.path, "[vdso") || strings.HasPrefix(a.path, "[vvar")
}

// global says that the area is the same in every process.
func (a area) global() bool { return a.path == "[vsyscall]" }

// stack is the first thread's.
func (a area) stack() bool { return a.path == "[stack]" }

// parseMaps reads /proc/PID/maps.
func parseMaps(data string) ([]area, error) {
	var areas []area
	for line := range strings.Lines(data) {
		a, err := parseArea(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("read map of memory: line %q: %w", line, err)
		}
		areas = append(areas, a)
	}
	return areas, nil
}

// parseArea reads "start-end perms offset major:minor inode path".
func parseArea(line string) (area, error) {
	var a area
	var fields [5]string
	rest := line
	for i := range fields {
		fields[i], rest, _ = strings.Cut(strings.TrimLeft(rest, " "), " ")
	}
	a.path = strings.TrimLeft(rest, " ")
	start, end, _ := strings.Cut(fields[0], "-")
	major, minor, _ := strings.Cut(fields[3], ":")
	numbers := make([]uint64, 6)
	for i, n := range []struct {
		text string
		base int
	}{{start, 16}, {end, 16}, {fields[2], 16}, {major, 16}, {minor, 16}, {fields[4], 10}} {
		var err error
		if numbers[i], err = strconv.ParseUint(n.text, n.base, 64); err != nil {
			return a, err
		}
	}
	a.start, a.end, a.offset, a.inode = numbers[0], numbers[1], numbers[2], numbers[5]
	a.device = unix.Mkdev(uint32(numbers[3]), uint32(numbers[4]))
	perms := fields[1]
	if len(perms) != 4 || a.end <= a.start {
		return a, fmt.Errorf("permissions %q of %d bytes", perms, int64(a.end-a.start))
	}
	for i, bit := range []int{unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC} {
		if perms[i] != '-' {
			a.prot |= bit
		}
	}
	a.shared = perms[3] == 's'
	return a, nil
}
