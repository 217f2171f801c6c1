package freeze

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// firstSlot is above the numbers that a process has files under. What it is
// thawed with waits there.
const firstSlot = 512

// slotPages is the name of the file with the pages, slotNothing of one that is
// behind numbers for a while.
const (
	slotPages   = "pages"
	slotNothing = "nothing"
)

// slot is the number under which the file of that name waits.
func (f *freezer) slot(name string) uint64 {
	i, ok := f.slots[name]
	if !ok {
		i = len(f.image.Slots)
		f.slots[name] = i
		f.image.Slots = append(f.image.Slots, name)
	}
	return uint64(firstSlot + i)
}

// takeFiles has the open files be there under their numbers. They are opened in
// the order of their numbers, so that each gets its own, and what is between
// them is filled and closed in the end.
func (f *freezer) takeFiles() error {
	var err error
	if f.open, err = readDescriptors(f.pid); err != nil {
		return err
	}
	if err := f.leaveLeaks(); err != nil {
		return err
	}
	next := 0
	var gaps []int
	for _, d := range f.open {
		if d.number >= firstSlot {
			return fmt.Errorf("its open file %d, %s, has too high a number", d.number, d.target)
		}
		for ; next < d.number; next++ {
			f.program.call(unix.SYS_DUP3, f.slot(slotNothing), uint64(next), 0)
			gaps = append(gaps, next)
		}
		if err := f.takeFile(d); err != nil {
			return fmt.Errorf("its open file %d, %s: %w", d.number, d.target, err)
		}
		next++
	}
	for _, n := range gaps {
		f.program.call(unix.SYS_CLOSE, uint64(n))
	}
	return f.takeSets()
}

// leaveLeaks leaves out files that this process has too under the same number:
// somebody above both of them has not closed them.
func (f *freezer) leaveLeaks() error {
	own, err := readDescriptors(os.Getpid())
	if err != nil {
		return err
	}
	f.open = slices.DeleteFunc(f.open, func(d descriptor) bool {
		return d.number > 2 && slices.ContainsFunc(own, func(o descriptor) bool { return o.number == d.number && o.id == d.id })
	})
	return nil
}

// takeFile has one file opened, which gets its number.
func (f *freezer) takeFile(d descriptor) error {
	p, n := f.program, uint64(d.number)
	cloexec := uint64(d.flags & unix.O_CLOEXEC)
	if name, ok := f.nameOf(d); ok {
		p.call(unix.SYS_DUP3, f.slot(name), n, cloexec)
		if name != slotNothing {
			p.call(unix.SYS_FCNTL, n, unix.F_SETFL, uint64(d.flags&^(unix.O_CLOEXEC|unix.O_ACCMODE)))
		}
		return nil
	}
	switch {
	case d.target == "anon_inode:[eventfd]":
		return f.takeEvent(d)
	case d.target == "anon_inode:[signalfd]":
		mask, err := d.infoNumber("sigmask", 16)
		if err != nil {
			return err
		}
		// Their flags have the values of those of open.
		p.call(unix.SYS_SIGNALFD4, ^uint64(0), p.words(mask), 8, uint64(d.flags&(unix.O_CLOEXEC|unix.O_NONBLOCK)))
	case d.target == "anon_inode:[eventpoll]":
		p.call(unix.SYS_EPOLL_CREATE1, cloexec)
	case strings.HasPrefix(d.target, "/memfd:"):
		return f.takeEmpty(d)
	case d.mode&unix.S_IFMT == unix.S_IFCHR && strings.HasPrefix(d.target, "/dev/"):
		p.call(unix.SYS_OPENAT, atCwd, p.text(d.target), uint64(d.flags))
	default:
		return errKind
	}
	return nil
}

// atCwd is AT_FDCWD as an argument.
const atCwd = ^uint64(99)

// errKind says that there is no way to make such a file again.
var errKind = fmt.Errorf("a file of this kind cannot be kept: %w", unix.ENOTSUP)

// nameOf is what a file is known as.
func (f *freezer) nameOf(d descriptor) (string, bool) {
	if name, ok := f.known.Files[d.id]; ok {
		return name, true
	}
	name, ok := f.known.Numbers[d.number]
	return name, ok
}

func (f *freezer) takeEvent(d descriptor) error {
	count, err := d.infoNumber("eventfd-count", 16)
	if err != nil {
		return err
	}
	flags := uint64(d.flags & (unix.O_CLOEXEC | unix.O_NONBLOCK))
	if d.info["eventfd-semaphore"] == "1" {
		flags |= unix.EFD_SEMAPHORE
	}
	if count > 1<<31 {
		return errKind
	}
	f.program.call(unix.SYS_EVENTFD2, count, flags)
	return nil
}

// takeEmpty is a file in memory that nothing was written to.
func (f *freezer) takeEmpty(d descriptor) error {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", f.pid, d.number), &st); err != nil {
		return err
	}
	if st.Blocks != 0 {
		return fmt.Errorf("it has %d bytes in it: %w", st.Blocks*512, errKind)
	}
	name := strings.TrimSuffix(strings.TrimPrefix(d.target, "/memfd:"), " (deleted)")
	f.program.call(unix.SYS_MEMFD_CREATE, f.program.text(name), unix.MFD_CLOEXEC)
	f.program.call(unix.SYS_FTRUNCATE, uint64(d.number), uint64(d.size))
	return nil
}

// takeSets fills the epoll sets, when all files are there.
func (f *freezer) takeSets() error {
	for _, d := range f.open {
		for _, w := range d.watched {
			event := binary.LittleEndian.AppendUint32(nil, w.events)
			event = binary.LittleEndian.AppendUint64(event, w.data)
			f.program.call(unix.SYS_EPOLL_CTL, uint64(d.number), unix.EPOLL_CTL_ADD, uint64(w.number), f.program.bytes(event))
		}
	}
	return nil
}
