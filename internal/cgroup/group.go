package cgroup

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/cgroups/systemd"
	"golang.org/x/sys/unix"
)

// Group is the cgroup that this process has joined, with all that it starts
// from then on. A nil Group is none, and does nothing.
type Group struct {
	place   Place
	manager cgroups.Manager
	// dir is the sandbox's directory, where a trace is kept for those who
	// clean up after a crash.
	dir string

	mu sync.Mutex
	// homes are where to go back to.
	homes map[string]string
	// confined says that the group had CPUs or nodes of its own at a time.
	confined bool
}

// Join makes the cgroup at place and moves this process into it. dir is the
// directory of the sandbox. Where the host has no cgroups that can be changed,
// it returns nil and says so in the log.
func Join(place Place, dir string) (*Group, error) {
	if place.IsNone() {
		return nil, nil
	}
	mounted, err := hierarchies()
	if err != nil {
		return nil, err
	}
	if len(mounted) == 0 {
		slog.Warn("no cgroup file system is mounted here, so the sandbox has no cgroup on the host", "cgroup", place.String())
		return nil, nil
	}
	g, err := newGroup(place, dir)
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", place, err)
	}
	if err := g.join(); err != nil {
		g.undo()
		if errors.Is(err, unix.EROFS) {
			slog.Warn("cgroups cannot be changed here, so the sandbox has none on the host", "cgroup", place.String(), "error", err)
			return nil, nil
		}
		return nil, fmt.Errorf("join cgroup %s: %w; set cgroup.parent in the configuration, or linux.cgroupsPath in the spec, to one that can be made", place, err)
	}
	return g, nil
}

func newGroup(place Place, dir string) (*Group, error) {
	config := &cgroups.Cgroup{Resources: &cgroups.Resources{SkipDevices: true}}
	if place.Slice != "" && systemd.IsRunningSystemd() {
		config.Systemd, config.Parent, config.ScopePrefix, config.Name = true, place.Slice, place.Prefix, place.Name
	} else {
		config.Path = place.plain().Path
	}
	m, err := manager.New(config)
	if err != nil {
		return nil, err
	}
	return &Group{place: place, manager: m, dir: dir}, nil
}

func (g *Group) join() error {
	paths := g.manager.GetPaths()
	var err error
	if g.homes, err = homes(paths); err != nil {
		return err
	}
	// Before there is anything to be found by it.
	if err := writeTrace(g.dir, paths); err != nil {
		return err
	}
	if err := g.apply(); err != nil {
		return err
	}
	// Hierarchies in which nothing was to be limited have no such directory.
	maps.DeleteFunc(g.homes, func(dir, _ string) bool { return !cgroups.PathExists(dir) })
	return nil
}

// Add moves a process that was not started from within into the cgroup.
func (g *Group) Add(pid int) error {
	if g == nil {
		return nil
	}
	for dir := range g.homes {
		if err := cgroups.WriteCgroupProc(dir, pid); err != nil {
			return fmt.Errorf("move process %d into cgroup %s: %w", pid, g.place, err)
		}
	}
	return nil
}

// Forsake moves this process to the top of each hierarchy in which the group has
// no directory, like that for devices: whoever has started the process may want to
// remove the cgroup in which that was, and kills what keeps it from that.
func (g *Group) Forsake() error {
	if g == nil {
		return nil
	}
	mounted, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range mounted {
		if g.isIn(h) {
			continue
		}
		if err := cgroups.WriteCgroupProc(h.mountpoint, os.Getpid()); err != nil && !errors.Is(err, unix.EROFS) {
			return fmt.Errorf("leave a cgroup of whoever has started this process: %w", err)
		}
	}
	return nil
}

func (g *Group) isIn(h hierarchy) bool {
	for dir := range g.homes {
		if below(dir, h.mountpoint) {
			return true
		}
	}
	return false
}

// Set replaces the limits.
func (g *Group) Set(l Limits) error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.confined {
		// An empty list changes nothing, which is right only as long as
		// nothing was set.
		l.CPUs, l.Mems = orParents(g.cpusetDir(), l.CPUs, "cpus"), orParents(g.cpusetDir(), l.Mems, "mems")
	}
	g.confined = g.confined || l.CPUs != "" || l.Mems != ""
	if err := g.manager.Set(l.resources()); err != nil {
		return fmt.Errorf("limit cgroup %s: %w", g.place, err)
	}
	return nil
}

func (g *Group) cpusetDir() string { return g.manager.Path("cpuset") }

// orParents is list, or the one of the cgroup above.
func orParents(dir, list, what string) string {
	if list != "" {
		return list
	}
	for _, name := range []string{"cpuset." + what + ".effective", "cpuset.effective_" + what, "cpuset." + what} {
		if data, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name)); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	return ""
}

// Outside runs f while this process is where it was before, so that what f
// starts and uses is not the sandbox's.
func (g *Group) Outside(f func()) {
	if g == nil {
		f()
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	pid := os.Getpid()
	for _, target := range g.homes {
		if err := cgroups.WriteCgroupProc(target, pid); err != nil {
			slog.Debug("leave the cgroup for a time", "cgroup", g.place.String(), "error", err)
		}
	}
	f()
	for dir := range g.homes {
		if err := cgroups.WriteCgroupProc(dir, pid); err != nil {
			slog.Warn("come back to the cgroup", "cgroup", g.place.String(), "error", err)
		}
	}
}

// Leave moves this process and all that are left to where it came from, and
// removes the cgroup.
func (g *Group) Leave() error {
	if g == nil {
		return nil
	}
	if err := errors.Join(goHome(g.homes), g.manager.Destroy()); err != nil {
		return fmt.Errorf("remove cgroup %s: %w", g.place, err)
	}
	return errors.Join(removeParents(slices.Collect(maps.Keys(g.homes))), removeTrace(g.dir))
}

// undo takes back a join that came only half the way.
func (g *Group) undo() {
	err := errors.Join(goHome(g.homes), g.manager.Destroy(), removeParents(slices.Collect(maps.Keys(g.homes))), removeTrace(g.dir))
	if err != nil {
		slog.Debug("clean up", "cgroup", g.place.String(), "error", err)
	}
}
