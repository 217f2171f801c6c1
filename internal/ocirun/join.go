package ocirun

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/record"
)

// prepare makes the directory of a container, and starts a sandbox process
// unless the container is to be in the sandbox of another one.
func (r *Runtime) prepare(launch engine.Launch, spec *specs.Spec) (*engine.Sandbox, error) {
	host, err := r.host(launch.Record.ID, spec)
	if err != nil {
		return nil, err
	}
	if host == nil {
		if r.Prepare != nil {
			r.Prepare()
		}
		return r.Engine.Prepare(launch)
	}
	return r.Engine.Join(launch, *host)
}

// libpod is what Podman calls itself in the annotation manager. It makes those
// of CRI-O too, also for pods that share nothing.
const (
	manager = "io.container.manager"
	libpod  = "libpod"
)

// host is the container in whose sandbox another one is to be, nil where it gets
// its own. Kubernetes' annotations tell it, and else the namespaces that the
// container shares with others: who has a network or sees processes together
// is in one virtual machine.
func (r *Runtime) host(id string, spec *specs.Spec) (*record.Dir, error) {
	role, name, err := oci.PodOf(id, spec.Annotations)
	if err != nil {
		return nil, err
	}
	if role == oci.PodContainer && spec.Annotations[manager] != libpod {
		dir, err := r.Engine.Root.Get(name)
		if err != nil || !dir.Alive() {
			return nil, fmt.Errorf("container %s: its sandbox %s does not run: %w", id, name, errdefs.ErrFailedPrecondition)
		}
		return &dir, nil
	}
	if spec.Linux == nil {
		return nil, nil
	}
	return r.sharing(spec.Linux.Namespaces)
}

// sharing finds the sandbox of the containers that a list of namespaces names.
func (r *Runtime) sharing(namespaces []specs.LinuxNamespace) (*record.Dir, error) {
	var found *record.Dir
	var network, other *specs.LinuxNamespace
	for i, ns := range namespaces {
		if ns.Type == specs.NetworkNamespace {
			network = &namespaces[i]
		}
		if ns.Path == "" {
			continue
		}
		dir, err := r.owner(ns)
		if err != nil {
			return nil, err
		}
		switch {
		case dir == nil:
			continue
		case found != nil && found.ID != dir.ID:
			return nil, fmt.Errorf("linux.namespaces: %s and %s are those of containers in two virtual machines, and a container can be in one only: %w", other.Path, ns.Path, errdefs.ErrInvalidArgument)
		}
		found, other = dir, &namespaces[i]
	}
	if found == nil || network == nil || network.Path == "" {
		return found, nil
	}
	if dir, err := r.owner(*network); err != nil || dir == nil {
		return nil, fmt.Errorf("linux.namespaces: %s is shared with container %s, but network namespace %s is not, and a virtual machine has one network: share that too, or have none: %w", other.Path, found.ID, network.Path, errdefs.ErrInvalidArgument)
	}
	return found, nil
}

// owner is the container in whose sandbox a namespace is, nil for one that is
// nobody's. The process that stands for a container on the host has the
// container's network namespace; others are told by its id.
func (r *Runtime) owner(ns specs.LinuxNamespace) (*record.Dir, error) {
	dirs, err := r.Engine.Root.List()
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(ns.Path)
	if err != nil {
		return nil, fmt.Errorf("linux.namespaces: %s: %w: %w", ns.Path, err, errdefs.ErrInvalidArgument)
	}
	for _, dir := range dirs {
		pid, ok := standing(dir)
		if !ok {
			continue
		}
		if ns.Type != specs.NetworkNamespace && procPID(ns.Path) != pid {
			continue
		}
		if ns.Type == specs.NetworkNamespace {
			theirs, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
			if err != nil || !os.SameFile(info, theirs) {
				continue
			}
		}
		return r.sandboxOf(dir)
	}
	return nil, nil
}

// standing is the process that stands for a container, false where none does.
func standing(dir record.Dir) (int, bool) {
	pid, err := dir.Process()
	if err != nil {
		return 0, false
	}
	if _, err := dir.Exit(); err == nil || !dir.Alive() {
		return 0, false
	}
	return pid, true
}

// sandboxOf is the container that the sandbox of another one ends with.
func (r *Runtime) sandboxOf(dir record.Dir) (*record.Dir, error) {
	rec, err := dir.Record()
	if err != nil || rec.Sandbox == "" {
		return &dir, err
	}
	host, err := r.Engine.Root.Get(rec.Sandbox)
	return &host, err
}

// procPID is PID of a path like /proc/PID/ns/pid, or 0.
func procPID(path string) int {
	rest, ok := strings.CutPrefix(filepath.Clean(path), "/proc/")
	if !ok {
		return 0
	}
	number, _, _ := strings.Cut(rest, "/")
	pid, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return pid
}
