package template

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// newMemory returns a file of that size that only its holders can reach.
func newMemory(size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate("guest-memory", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make guest memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "guest-memory")
	if err := f.Truncate(size); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make guest memory of %d bytes: %w", size, err)
	}
	return f, nil
}

// State opens the device state for reading.
func (t *Template) State() (*os.File, error) {
	f, err := os.Open(filepath.Join(t.dir, fileState))
	if err != nil {
		return nil, fmt.Errorf("open device state of template: %w", err)
	}
	return f, nil
}

// Copy returns memory for one clone, which may be shared with other processes,
// and what makes it a copy of the template's. That costs time and memory for
// every page that the template uses; a VMM may open the memory meanwhile, but
// not go on.
func (t *Template) Copy() (memory *os.File, fill func() error, err error) {
	stored, err := os.Open(filepath.Join(t.dir, fileMemory))
	if err != nil {
		return nil, nil, fmt.Errorf("open memory of template: %w", err)
	}
	if memory, err = newMemory(t.MemorySize); err != nil {
		_ = stored.Close()
		return nil, nil, err
	}
	return memory, func() error {
		defer stored.Close()
		if _, err := copyUsed(memory, stored, t.MemorySize); err != nil {
			return fmt.Errorf("copy memory of template: %w", err)
		}
		return nil
	}, nil
}

// Lend makes the template's own memory reachable as the file name in the
// returned directory, until take is called: then its holder cannot open it
// any more, whatever it does. A clone that maps it privately shares its pages
// with all others.
func (t *Template) Lend() (dir *os.File, name string, take func(), err error) {
	lent, err := (&Store{dir: filepath.Dir(t.dir)}).holdNew()
	if err != nil {
		return nil, "", nil, fmt.Errorf("lend memory of template: %w", err)
	}
	if dir, err = t.lendIn(lent.path); err != nil {
		lent.remove()
		return nil, "", nil, fmt.Errorf("lend memory of template: %w", err)
	}
	return dir, fileMemory, func() { lent.remove(); _ = dir.Close() }, nil
}

func (t *Template) lendIn(path string) (*os.File, error) {
	if err := os.Link(filepath.Join(t.dir, fileMemory), filepath.Join(path, fileMemory)); err != nil {
		return nil, err
	}
	// To be entered by way of the descriptor by a user that is not root.
	if err := os.Chmod(path, 0o711); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// page is the unit in which memory is looked at.
const page = 4096

var zeroPage [page]byte

// copyUsed copies what is not zero and returns how many bytes that was. Both
// files have size bytes afterwards.
func copyUsed(to, from *os.File, size int64) (int64, error) {
	if err := to.Truncate(size); err != nil {
		return 0, err
	}
	var used int64
	buf := make([]byte, 256*page)
	for offset := int64(0); offset < size; {
		start, end, err := nextData(from, offset, size)
		if err != nil {
			return used, err
		}
		for start < end {
			n := min(int64(len(buf)), end-start)
			if _, err := from.ReadAt(buf[:n], start); err != nil && !errors.Is(err, io.EOF) {
				return used, err
			}
			written, err := writeUsed(to, buf[:n], start)
			used += written
			if err != nil {
				return used, err
			}
			start += n
		}
		offset = end
	}
	return used, nil
}

// nextData finds the next part of a file that is no hole. At the end both
// offsets are size.
func nextData(f *os.File, offset, size int64) (start, end int64, err error) {
	start, err = unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("find data: %w", err)
	}
	end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, fmt.Errorf("find hole: %w", err)
	}
	return start, min(end, size), nil
}

// writeUsed writes the runs of pages in data that are not zero.
func writeUsed(to *os.File, data []byte, offset int64) (int64, error) {
	var written int64
	for i := 0; i < len(data); {
		if isZero(data[i:min(i+page, len(data))]) {
			i += page
			continue
		}
		j := i
		for j < len(data) && !isZero(data[j:min(j+page, len(data))]) {
			j += page
		}
		j = min(j, len(data))
		n, err := to.WriteAt(data[i:j], offset+int64(i))
		written += int64(n)
		if err != nil {
			return written, err
		}
		i = j
	}
	return written, nil
}

func isZero(b []byte) bool { return bytes.Equal(b, zeroPage[:len(b)]) }
