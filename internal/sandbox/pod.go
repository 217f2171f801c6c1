package sandbox

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/storage"
)

// createStanding makes the container that stands for a pod, and with it the VM.
func (s *Sandbox) createStanding(ctx context.Context, host *specs.Spec, spec ContainerSpec) (*Container, error) {
	// It writes nothing and reads nothing.
	spec.Stdio.Close()
	pod, err := oci.Pod(host)
	if err != nil {
		return nil, fmt.Errorf("OCI spec of pod %s: %w", spec.ID, err)
	}
	c := newContainer(s, spec, host)
	c.plan, c.hooks, c.annotations = &storage.Plan{}, pod.Hooks, host.Annotations
	c.tasks = newStanding(s.lost)
	if err := s.reserve(c); err != nil {
		return nil, err
	}
	s.pod, s.sysctls, s.podFiles = pod, pod.Sysctls, spec.PodFiles
	err = s.Start(ctx, c)
	if err == nil {
		err = s.makeRoom(ctx)
		s.roomMade()
	}
	if err == nil {
		err = c.creationHooks(ctx)
	}
	if err == nil {
		c.init = newProcess(c, "", false, Stdio{})
		err = c.init.create(ctx, func(context.Context, streamIDs) (uint32, error) { return 0, nil })
	}
	if err != nil {
		c.giveUp(ctx)
		s.forget(c)
		return nil, err
	}
	return c, nil
}

// namespaces maps the namespaces that a pod's container joins, by their paths
// on the host, to those in the guest.
func (c *Container) namespaces(ctx context.Context, host *specs.Spec, peer func(pid int) string) (map[string]string, error) {
	if host.Linux == nil {
		return nil, nil
	}
	joined := map[string]string{}
	for _, ns := range host.Linux.Namespaces {
		if ns.Path == "" || ns.Type == specs.NetworkNamespace {
			continue
		}
		path, err := c.namespace(ctx, ns, peer)
		if err != nil {
			return nil, err
		}
		joined[ns.Path] = path
	}
	return joined, nil
}

// namespace finds one: that of another container's process, or the pod's. The
// host's name of the pod's own is of no matter, since there is only one.
func (c *Container) namespace(ctx context.Context, ns specs.LinuxNamespace, peer func(pid int) string) (string, error) {
	s := c.sandbox
	if pid := procPID(ns.Path); pid != 0 && peer != nil {
		other, err := s.Container(peer(pid))
		if err == nil && other.tasks == nil {
			return fmt.Sprintf("/proc/%d/ns/%s", other.init.PID(), filepath.Base(ns.Path)), nil
		}
	}
	switch {
	case s.pod == nil:
		return "", fmt.Errorf("linux.namespaces: %s is no namespace of a container in the virtual machine of %s: %w", ns.Path, s.opts.ID, errdefs.ErrInvalidArgument)
	case ns.Type != specs.PIDNamespace && s.pod.Users == nil:
		return oci.OfVM, nil
	}
	resp, err := s.client.VM.HoldNamespaces(ctx, holdRequest(s.pod.Users))
	if err != nil {
		return "", fmt.Errorf("make the pod's %s namespace in the guest: %w", ns.Type, err)
	}
	name, ok := namespaceFiles[ns.Type]
	if !ok {
		return "", fmt.Errorf("linux.namespaces: the pod has no %s namespace to share: %w", ns.Type, errdefs.ErrNotImplemented)
	}
	return fmt.Sprintf("/proc/%d/ns/%s", resp.GetPid(), name), nil
}

// namespaceFiles are the namespaces that a pod can share, by their names in
// /proc/PID/ns.
var namespaceFiles = map[specs.LinuxNamespaceType]string{
	specs.PIDNamespace: "pid", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.UserNamespace: "user",
}

// newNetwork reports whether a spec asks for a network namespace of its own.
func newNetwork(host *specs.Spec) bool {
	return host.Linux != nil && slices.ContainsFunc(host.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
		return ns.Type == specs.NetworkNamespace && ns.Path == ""
	})
}

// procPID is PID of a path like /proc/PID/ns/pid, or 0.
func procPID(path string) int {
	rest, ok := strings.CutPrefix(path, "/proc/")
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

func holdRequest(users *oci.UserNamespace) *agentapi.HoldNamespacesRequest {
	r := &agentapi.HoldNamespacesRequest{}
	if users != nil {
		r.Uids, r.Gids = idMappings(users.UIDs), idMappings(users.GIDs)
	}
	return r
}

func idMappings(in []specs.LinuxIDMapping) []*agentapi.IDMapping {
	var out []*agentapi.IDMapping
	for _, m := range in {
		out = append(out, &agentapi.IDMapping{ContainerId: m.ContainerID, GuestId: m.HostID, Size: m.Size})
	}
	return out
}

// addPodFiles gives a container those of the pod's files that it has no mount
// for, and the pod's shared memory in place of memory of its own. The host's spec
// is not changed.
func (c *Container) addPodFiles(host *specs.Spec) *specs.Spec {
	s := c.sandbox
	if len(s.podFiles) == 0 {
		return host
	}
	changed := *host
	changed.Mounts = slices.Clone(host.Mounts)
	for _, target := range slices.Sorted(maps.Keys(s.podFiles)) {
		if slices.ContainsFunc(changed.Mounts, func(m specs.Mount) bool { return m.Destination == target }) {
			continue
		}
		name := filepath.Base(target)
		c.podFiles = append(c.podFiles, &agentapi.File{Name: name, Content: []byte(s.podFiles[target]), Mode: 0o644})
		options := []string{"rbind", "rprivate", "rw"}
		if host.Root != nil && host.Root.Readonly {
			options[2] = "ro"
		}
		changed.Mounts = append(changed.Mounts, specs.Mount{Destination: target, Type: "bind", Source: oci.FilesPrefix + name, Options: options})
	}
	for i := range changed.Mounts {
		if m := &changed.Mounts[i]; m.Destination == "/dev/shm" && m.Type == "tmpfs" {
			*m = specs.Mount{Destination: m.Destination, Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "rprivate", "rw"}}
		}
	}
	return &changed
}

// podPorts is how many ports a pod's machine has for devices that are plugged
// in: each takes the disks of a container, or eight of them.
const podPorts = 12

// diskTimeout is how long a guest may keep disks that are taken away.
const diskTimeout = 10 * time.Second

// attachDisks plugs disks in, as many behind each port as it takes.
func (s *Sandbox) attachDisks(ctx context.Context, attached *releases, plan []storage.Disk) error {
	disks, err := openDisks(plan)
	if err != nil {
		return err
	}
	// The VMM has its own copies of the files.
	defer closeDisks(disks)
	for some := range slices.Chunk(disks, qemu.DisksPerPort) {
		set, err := s.machine.AttachDisks(ctx, some)
		if err != nil {
			return err
		}
		attached.push(func() { s.detachDisks(set) })
	}
	return nil
}

func (s *Sandbox) detachDisks(set *qemu.DiskSet) {
	if s.life.get() != Running {
		// They have gone with the machine.
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), diskTimeout)
	defer cancel()
	logError("take disks out of the machine", s.opts.ID, s.machine.DetachDisks(ctx, set))
}
