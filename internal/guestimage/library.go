package guestimage

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// linkerConfig names directories that the dynamic linker searches before its
// own.
const linkerConfig = "/etc/ld.so.conf"

// libraryDirs are the dynamic linker's own on Debian and its relatives.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

// maxInterpreter bounds the length of the interpreter's path.
const maxInterpreter = 4096

// resolver collects the shared libraries of a program.
type resolver struct {
	dirs []string
	// found are paths on the host by their path in the guest.
	found map[string]string
	seen  map[string]bool
}

// libraries returns the interpreter and all shared libraries that a program
// needs, as paths on the host by their path in the guest; none for a static
// program.
func libraries(program string) (map[string]string, error) {
	dirs, err := configuredDirs(linkerConfig, 0)
	if err != nil {
		return nil, err
	}
	r := &resolver{dirs: slices.Concat(dirs, libraryDirs), found: map[string]string{}, seen: map[string]bool{}}
	if err := r.collect(program); err != nil {
		return nil, fmt.Errorf("shared libraries of %s: %w", program, err)
	}
	return r.found, nil
}

func (r *resolver) collect(path string) error {
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer file.Close()
	if name, err := interpreter(file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	} else if name != "" {
		r.found[name] = name
	}
	names, err := file.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read imports of %s: %w", path, err)
	}
	for _, name := range names {
		if r.seen[name] {
			continue
		}
		r.seen[name] = true
		host, err := r.find(name)
		if err != nil {
			return err
		}
		r.found[guestLibrary(host)] = host
		if err := r.collect(host); err != nil {
			return err
		}
	}
	return nil
}

// guestLibrary is where a library goes in the guest. The guest's dynamic
// linker has no cache and searches its own directories only.
func guestLibrary(host string) string {
	if slices.Contains(libraryDirs, filepath.Dir(host)) {
		return host
	}
	return filepath.Join(libraryDirs[0], filepath.Base(host))
}

func interpreter(file *elf.File) (string, error) {
	for _, p := range file.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		if p.Filesz == 0 || p.Filesz > maxInterpreter {
			return "", fmt.Errorf("the interpreter's path has %d bytes", p.Filesz)
		}
		name := make([]byte, p.Filesz)
		if _, err := p.ReadAt(name, 0); err != nil {
			return "", fmt.Errorf("read the interpreter's path: %w", err)
		}
		return strings.TrimRight(string(name), "\x00"), nil
	}
	return "", nil
}

// find searches as the dynamic linker does, which passes over libraries for
// other machines: the directories may hold those for 32-bit programs, too.
func (r *resolver) find(name string) (string, error) {
	for _, dir := range r.dirs {
		path := filepath.Join(dir, name)
		file, err := elf.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, other := errors.AsType[*elf.FormatError](err); other {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read library: %w", err)
		}
		fits := file.Class == elf.ELFCLASS64 && file.Machine == elf.EM_X86_64
		file.Close()
		if fits {
			return path, nil
		}
	}
	return "", fmt.Errorf("library %s is in none of %v", name, r.dirs)
}
