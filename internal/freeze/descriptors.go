package freeze

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// descriptor is an open file of a process.
type descriptor struct {
	number int
	// target is what the link in /proc says.
	target string
	flags  int
	info   map[string]string
	// watched are the files of an epoll set.
	watched []watch
	id      fileID
	mode    uint32
	size    int64
}

// watch is a member of an epoll set.
type watch struct {
	number int
	events uint32
	data   uint64
}

// fileID tells a file from all others.
type fileID struct{ Device, Inode uint64 }

// readDescriptors lists the open files of a process, by number.
func readDescriptors(pid int) ([]descriptor, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil, fmt.Errorf("list open files: %w", err)
	}
	var list []descriptor
	for _, e := range entries {
		link := filepath.Join(dir, "fd", e.Name())
		target, err := os.Readlink(link)
		if errors.Is(err, fs.ErrNotExist) {
			// That was the list itself.
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read open file: %w", err)
		}
		info, err := os.ReadFile(filepath.Join(dir, "fdinfo", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read open file: %w", err)
		}
		d, err := parseDescriptor(string(info))
		if err != nil {
			return nil, fmt.Errorf("open file %s, %s: %w", e.Name(), target, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(link, &st); err != nil {
			return nil, fmt.Errorf("look at open file %s, %s: %w", e.Name(), target, err)
		}
		d.target, d.id, d.mode, d.size = target, fileID{st.Dev, st.Ino}, st.Mode, st.Size
		if d.number, err = strconv.Atoi(e.Name()); err != nil {
			return nil, fmt.Errorf("list open files: %w", err)
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b descriptor) int { return a.number - b.number })
	return list, nil
}

// parseDescriptor reads what /proc/PID/fdinfo/N says.
func parseDescriptor(text string) (descriptor, error) {
	d := descriptor{info: map[string]string{}}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "tfd" {
			w, err := parseWatch(line)
			if err != nil {
				return d, err
			}
			d.watched = append(d.watched, w)
			continue
		}
		d.info[name] = strings.TrimSpace(value)
	}
	flags, err := strconv.ParseUint(d.info["flags"], 8, 32)
	if err != nil {
		return d, fmt.Errorf("read flags: %w", err)
	}
	d.flags = int(flags)
	return d, nil
}

// parseWatch reads "tfd: N events: HEX data: HEX ...".
func parseWatch(line string) (watch, error) {
	fields := strings.Fields(line)
	if len(fields) < 6 {
		return watch{}, fmt.Errorf("epoll set: %q", line)
	}
	number, err := strconv.Atoi(fields[1])
	if err != nil {
		return watch{}, fmt.Errorf("epoll set: %w", err)
	}
	events, err := strconv.ParseUint(fields[3], 16, 32)
	if err != nil {
		return watch{}, fmt.Errorf("epoll set: %w", err)
	}
	data, err := strconv.ParseUint(fields[5], 16, 64)
	if err != nil {
		return watch{}, fmt.Errorf("epoll set: %w", err)
	}
	return watch{number: number, events: uint32(events), data: data}, nil
}

// number reads a decimal number of fdinfo.
func (d descriptor) infoNumber(name string, base int) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(d.info[name], "0x"), base, 64)
	if err != nil {
		return 0, fmt.Errorf("open file %d, %s: %s %q: %w", d.number, d.target, name, d.info[name], err)
	}
	return n, nil
}
