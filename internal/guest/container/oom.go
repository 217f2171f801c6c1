package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WaitOOM waits until the kernel has killed more processes of a container for
// want of memory than seen, or the container has ended. It returns how many
// were killed, and whether more can come no longer.
func (s *Service) WaitOOM(ctx context.Context, id string, seen uint64) (count uint64, ended bool, err error) {
	c, err := s.container(id)
	if err != nil {
		return 0, false, err
	}
	changed, stop, err := c.cgroup.watch("memory.events")
	if err != nil {
		return 0, false, err
	}
	defer stop()
	for {
		count := c.cgroup.pairs("memory.events")["oom_kill"]
		if count > seen {
			return count, false, nil
		}
		select {
		case <-changed:
		case <-c.init.exited:
			return max(seen, c.cgroup.pairs("memory.events")["oom_kill"]), true, nil
		case <-ctx.Done():
			return 0, false, context.Cause(ctx)
		}
	}
}

// watch tells of changes of a cgroup's file until stop is called. Without the
// file there are none.
func (c cgroup) watch(name string) (changed <-chan struct{}, stop func(), err error) {
	if c == "" {
		return nil, func() {}, nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	_, err = unix.InotifyAddWatch(fd, filepath.Join(string(c), name), unix.IN_MODIFY)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		_ = f.Close()
		return nil, nil, fmt.Errorf("watch %s: %w", name, err)
	}
	out := make(chan struct{}, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := f.Read(buf); err != nil {
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() { _ = f.Close() }, nil
}
