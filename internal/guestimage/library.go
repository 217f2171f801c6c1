package guestimage

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// libraryDirs are searched in the dynamic linker's order on Debian and its
// relatives.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

// libraries returns the paths of the interpreter and all shared libraries
// that a program needs, sorted; none for a static one.
func libraries(program string) ([]string, error) {
	needed := map[string]string{}
	if err := collectLibraries(program, needed); err != nil {
		return nil, fmt.Errorf("shared libraries of %s: %w", program, err)
	}
	var paths []string
	for _, path := range needed {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

func collectLibraries(path string, needed map[string]string) error {
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name := make([]byte, p.Filesz-1)
		if _, err := p.ReadAt(name, 0); err != nil {
			return fmt.Errorf("read interpreter of %s: %w", path, err)
		}
		needed[string(name)] = string(name)
	}
	names, err := file.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read imports of %s: %w", path, err)
	}
	for _, name := range names {
		if _, ok := needed[name]; ok {
			continue
		}
		found, err := findLibrary(name)
		if err != nil {
			return err
		}
		needed[name] = found
		if err := collectLibraries(found, needed); err != nil {
			return err
		}
	}
	return nil
}

func findLibrary(name string) (string, error) {
	for _, dir := range libraryDirs {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("library %s is in none of %v", name, libraryDirs)
}
