package freeze

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const page = 4096

// gap is how many pages without content between two with it are kept too, so
// that there are fewer mappings.
const gap = 32

// moreStack is how much the first thread's stack may grow by.
const moreStack = 1 << 20

// takeMemory has all areas mapped where they were.
func (f *freezer) takeMemory() error {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", f.pid))
	if err != nil {
		return err
	}
	areas, err := parseMaps(string(data))
	if err != nil {
		return err
	}
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", f.pid))
	if err != nil {
		return err
	}
	defer pagemap.Close()
	var files []area
	for _, a := range areas {
		switch {
		case a.global():
		case a.start < stubEnd && a.end > stubBase || a.start < aside+dataSize && a.end > aside:
			err = fmt.Errorf("it has memory where its copies are made, at %#x", a.start)
		case a.kernels():
			f.image.Kernel = append(f.image.Kernel, place{a.path, a.start, a.end})
		case a.shared && (a.prot&unix.PROT_WRITE != 0 || !strings.HasPrefix(a.path, "/") || strings.HasPrefix(a.path, "/memfd:")):
			err = f.takeShared(a)
		case a.inode == 0:
			err = f.takeAnonymous(a, pagemap)
		default:
			var own bool
			if own, err = f.takePrivate(a, pagemap); err == nil && !own {
				files = append(files, a)
			}
		}
		if err != nil {
			return err
		}
	}
	return f.takeMapped(files)
}

// Arguments of mmap.
const (
	newPlace = unix.MAP_PRIVATE | unix.MAP_FIXED_NOREPLACE | unix.MAP_NORESERVE
	noFile   = ^uint64(0)
)

// takeShared maps memory that others could share.
func (f *freezer) takeShared(a area) error {
	id := fileID{a.device, a.inode}
	if name, ok := f.known.Files[id]; ok {
		f.image.Shared = append(f.image.Shared, sharedStep{name, len(f.program.steps)})
		f.program.call(unix.SYS_MMAP, a.start, a.size(), uint64(a.prot), newPlace, f.slot(name), a.offset)
		return nil
	}
	for _, d := range f.open {
		if d.id == id && strings.HasPrefix(d.target, "/memfd:") {
			flags := unix.MAP_SHARED | unix.MAP_FIXED_NOREPLACE | unix.MAP_NORESERVE
			f.program.call(unix.SYS_MMAP, a.start, a.size(), uint64(a.prot), uint64(flags), uint64(d.number), a.offset)
			return nil
		}
	}
	return fmt.Errorf("its shared memory at %#x, %s: %w", a.start, a.path, errKind)
}

// takeAnonymous maps memory of its own, with what is in it.
func (f *freezer) takeAnonymous(a area, pagemap io.ReaderAt) error {
	f.program.call(unix.SYS_MMAP, a.start, a.size(), uint64(a.prot), newPlace|unix.MAP_ANONYMOUS, noFile, 0)
	if a.stack() {
		f.program.call(unix.SYS_MMAP, a.start-moreStack, moreStack, uint64(a.prot), newPlace|unix.MAP_ANONYMOUS, noFile, 0)
	}
	own, err := ownPages(a, pagemap)
	if err != nil {
		return err
	}
	for _, r := range runs(own, gap) {
		from, to := a.start+uint64(r[0])*page, a.start+uint64(r[1])*page
		offset, err := f.keep(from, to)
		if err != nil {
			return err
		}
		if a.stack() {
			// Arguments are shown to others only from memory that was never a file's.
			f.program.call(unix.SYS_PREAD64, f.slot(slotPages), from, to-from, offset)
			continue
		}
		f.program.call(unix.SYS_MMAP, from, to-from, uint64(a.prot), unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE, f.slot(slotPages), offset)
	}
	return nil
}

// takePrivate maps a part of a file that it has written to, and reports whether
// it has.
func (f *freezer) takePrivate(a area, pagemap io.ReaderAt) (bool, error) {
	own, err := ownPages(a, pagemap)
	if err != nil || !slices.Contains(own, true) {
		return false, err
	}
	offset, err := f.keep(a.start, a.end)
	f.program.call(unix.SYS_MMAP, a.start, a.size(), uint64(a.prot), newPlace, f.slot(slotPages), offset)
	return true, err
}

// keep writes a part of the memory into the file with the pages, and returns
// where that is.
func (f *freezer) keep(from, to uint64) (offset uint64, err error) {
	offset = uint64(f.filled)
	buf := make([]byte, 1<<20)
	for at := from; at < to; {
		n := min(uint64(len(buf)), to-at)
		if _, err := f.memory.ReadAt(buf[:n], int64(at)); err != nil {
			return 0, fmt.Errorf("read memory at %#x: %w", at, err)
		}
		if _, err := f.pages.WriteAt(buf[:n], f.filled); err != nil {
			return 0, fmt.Errorf("keep memory: %w", err)
		}
		at += n
		f.filled += int64(n)
	}
	return offset, nil
}

// takeMapped maps parts of files that it has only read.
func (f *freezer) takeMapped(areas []area) error {
	p := f.program
	slices.SortStableFunc(areas, func(a, b area) int { return strings.Compare(a.path, b.path) })
	for i, a := range areas {
		if name, ok := f.known.Files[fileID{a.device, a.inode}]; ok {
			p.call(unix.SYS_MMAP, a.start, a.size(), uint64(a.prot), newPlace, f.slot(name), a.offset)
			continue
		}
		if i == 0 || areas[i-1].path != a.path {
			if err := f.remember(a); err != nil {
				return err
			}
			p.step(keep, unix.SYS_OPENAT, atCwd, p.text(a.path), unix.O_RDONLY|unix.O_CLOEXEC)
		}
		p.step(useFifth, unix.SYS_MMAP, a.start, a.size(), uint64(a.prot), newPlace, 0, a.offset)
		if i == len(areas)-1 || areas[i+1].path != a.path {
			p.step(useFirst, unix.SYS_CLOSE)
		}
	}
	return nil
}

// remember notes what a mapped file must be.
func (f *freezer) remember(a area) error {
	var st unix.Stat_t
	if err := unix.Stat(a.path, &st); err != nil {
		return fmt.Errorf("look at %s: %w", a.path, err)
	}
	if st.Ino != a.inode {
		return fmt.Errorf("%s was replaced", a.path)
	}
	identity, err := identify(a.path)
	f.image.Mapped = append(f.image.Mapped, mapped{a.path, identity})
	return err
}

// ownPages tells for each page of an area whether the process has one of its
// own there, other than a file's or nothing.
func ownPages(a area, pagemap io.ReaderAt) ([]bool, error) {
	const (
		present = 1 << 63
		swapped = 1 << 62
		file    = 1 << 61
	)
	own := make([]bool, a.size()/page)
	buf := make([]byte, 8*len(own))
	if _, err := pagemap.ReadAt(buf, int64(a.start/page*8)); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read pages at %#x: %w", a.start, err)
	}
	for i := range own {
		entry := binary.LittleEndian.Uint64(buf[8*i:])
		own[i] = entry&swapped != 0 || entry&present != 0 && entry&file == 0
	}
	return own, nil
}

// runs are the parts that are set, those with less than gap between them as one.
func runs(set []bool, gap int) [][2]int {
	var list [][2]int
	for i, yes := range set {
		if !yes {
			continue
		}
		if last := len(list) - 1; last >= 0 && i-list[last][1] < gap {
			list[last][1] = i + 1
			continue
		}
		list = append(list, [2]int{i, i + 1})
	}
	return list
}
