package freeze

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Files of a frozen process, in a directory of the caller's.
const (
	filePages    = "pages"
	fileManifest = "process.json"
)

// Image is a frozen process.
type Image struct {
	// BootID is of the kernel that it ran under, and runs under only.
	BootID string
	// Slots are the names of the files that whoever thaws it has to bring, in
	// order.
	Slots []string
	// Mapped are the files that it had mapped, as they must still be.
	Mapped []mapped
	// Shared are the steps that map files which the process shared.
	Shared []sharedStep
	// Threads begin with the first.
	Threads []thread
	// Kernel are the kernel's own areas, and where they have to be.
	Kernel []place
	// Title is where its arguments are.
	Title place
	// Site is the address of a system call instruction.
	Site uint64
	// Pages is the size of the file with the pages.
	Pages int64
	// Steps are the program that makes the process in the stub, Data what it
	// points to.
	Steps, Data []byte

	dir string
}

// mapped is a file, as it was.
type mapped struct {
	Path     string
	Identity string
}

// sharedStep is where in the program a file is mapped.
type sharedStep struct {
	Name string
	At   int
}

// place is where an area is.
type place struct {
	Name       string
	Start, End uint64
}

// thread is what a thread consists of beside memory.
type thread struct {
	Registers unix.PtraceRegs
	Extended  []byte
	Blocked   uint64
	// TID is the address of the place that has the thread's id in it.
	TID uint64
	// Steps are the program that the thread itself has to run.
	Steps []byte
}

// Load reads a frozen process. That it is of another boot of this machine, or
// that a file it needs was replaced, is an error.
func Load(dir string) (*Image, error) {
	data, err := os.ReadFile(filepath.Join(dir, fileManifest))
	if err != nil {
		return nil, fmt.Errorf("read frozen process: %w", err)
	}
	i := &Image{dir: dir}
	if err := json.Unmarshal(data, i); err != nil {
		return nil, fmt.Errorf("read frozen process: %w", err)
	}
	return i, i.check()
}

// maxTitle is the most that a program is started with.
const maxTitle = 1 << 20

// errOtherBoot says that the kernel is another.
var errOtherBoot = errors.New("the process was frozen before this machine was booted")

func (i *Image) check() error {
	id, err := BootID()
	if err != nil {
		return err
	}
	if id != i.BootID {
		return errOtherBoot
	}
	pages, err := os.Stat(filepath.Join(i.dir, filePages))
	if err != nil {
		return fmt.Errorf("read frozen process: %w", err)
	}
	misplaced := func(s sharedStep) bool { return s.At < 0 || s.At+stepSize > len(i.Steps) }
	if len(i.Threads) == 0 || len(i.Data) > maxData || len(i.Steps) > maxSteps || slices.ContainsFunc(i.Shared, misplaced) || pages.Size() != i.Pages ||
		i.Title.End <= i.Title.Start || i.Title.End-i.Title.Start > maxTitle {
		return errors.New("read frozen process: it is not whole")
	}
	for _, m := range i.Mapped {
		now, err := identify(m.Path)
		if err != nil {
			return err
		}
		if now != m.Identity {
			return fmt.Errorf("%s is not the file that the process was frozen with", m.Path)
		}
	}
	return nil
}

func (i *Image) save(dir string) error {
	data, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("encode frozen process: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, fileManifest), data, 0o600)
}

// identify tells a file from what replaces it.
func identify(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", path, err)
	}
	return fmt.Sprintf("%d:%d %d %d.%d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec), nil
}

// BootID tells one boot of this machine from all others.
func BootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot's id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
