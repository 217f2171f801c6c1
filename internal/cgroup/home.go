package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// hierarchy is a mounted cgroup file system.
type hierarchy struct {
	// mountpoint is where it is, and root the cgroup that is seen there.
	mountpoint, root string
	// controller is one of those that it has, or its name; version 2 has "".
	controller string
}

// hierarchies lists what is mounted.
func hierarchies() ([]hierarchy, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("look for cgroup file systems: %w", err)
	}
	var all []hierarchy
	for _, m := range mounts {
		all = append(all, hierarchy{m.Mountpoint, m.Root, controllerOf(m)})
	}
	return all, nil
}

// controllerOf finds the controller among the options of a mount, which come
// after those that every file system has.
func controllerOf(m *mountinfo.Info) string {
	if m.FSType == "cgroup2" {
		return ""
	}
	for _, o := range slices.Backward(strings.Split(m.VFSOptions, ",")) {
		if key, _, set := strings.Cut(o, "="); !set || key == "name" {
			return o
		}
	}
	return ""
}

// homes finds where this process is now, for each of the cgroups that it is
// about to join: the directory to go back to, by the directory to leave.
func homes(paths map[string]string) (map[string]string, error) {
	mounted, err := hierarchies()
	if err != nil {
		return nil, err
	}
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the cgroup of this process: %w", err)
	}
	found := make(map[string]string)
	for controller, dir := range paths {
		found[dir] = home(dir, own[controller], mounted)
	}
	return found, nil
}

// home is the directory of the cgroup own in the hierarchy to which dir
// belongs. What is not to be seen from here becomes the hierarchy's root.
func home(dir, own string, mounted []hierarchy) string {
	var in hierarchy
	for _, h := range mounted {
		if below(dir, h.mountpoint) && len(h.mountpoint) > len(in.mountpoint) {
			in = h
		}
	}
	if in.mountpoint == "" || !below(own, in.root) || strings.HasPrefix(own, "/..") {
		return in.mountpoint
	}
	return filepath.Join(in.mountpoint, strings.TrimPrefix(own, in.root))
}

// Bring moves a process that another one has started into the cgroups that this
// one is in, where a child of it would be.
func Bring(pid int) error {
	mounted, err := hierarchies()
	if err != nil {
		return err
	}
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("find the cgroup of this process: %w", err)
	}
	var errs []error
	for _, h := range mounted {
		path, ok := own[h.controller]
		if !ok {
			continue
		}
		if err := cgroups.WriteCgroupProc(home(h.mountpoint, path, mounted), pid); err != nil && !errors.Is(err, unix.EROFS) {
			errs = append(errs, fmt.Errorf("move process %d into cgroup %s: %w", pid, path, err))
		}
	}
	return errors.Join(errs...)
}

func below(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}

// goHome moves every process out of each directory, to where this process came
// from, or where that is gone or full to the root.
func goHome(to map[string]string) error {
	mounted, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for dir, target := range to {
		pids, err := cgroups.GetPids(dir)
		if err != nil {
			// It is gone already.
			continue
		}
		for _, pid := range pids {
			err := cgroups.WriteCgroupProc(target, pid)
			if err != nil {
				err = cgroups.WriteCgroupProc(home(dir, "", mounted), pid)
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
