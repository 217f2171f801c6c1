package guestimage

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxIncludes bounds how deep the dynamic linker's configuration may nest.
const maxIncludes = 8

// configuredDirs reads the directories that the dynamic linker's
// configuration at path adds, in its order. There may be none.
func configuredDirs(path string, depth int) ([]string, error) {
	if depth > maxIncludes {
		return nil, fmt.Errorf("%s: includes nest deeper than %d", path, maxIncludes)
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the dynamic linker's configuration: %w", err)
	}
	defer file.Close()
	var dirs []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "hwcap":
		case words[0] == "include":
			more, err := includedDirs(filepath.Dir(path), words[1:], depth)
			if err != nil {
				return nil, err
			}
			dirs = append(dirs, more...)
		default:
			dirs = append(dirs, words[0])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return dirs, nil
}

func includedDirs(base string, patterns []string, depth int) ([]string, error) {
	var dirs []string
	for _, pattern := range patterns {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(base, pattern)
		}
		files, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("include %s in the dynamic linker's configuration: %w", pattern, err)
		}
		slices.Sort(files)
		for _, file := range files {
			more, err := configuredDirs(file, depth+1)
			if err != nil {
				return nil, err
			}
			dirs = append(dirs, more...)
		}
	}
	return dirs, nil
}
