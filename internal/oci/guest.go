package oci

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// GuestVersion is the ociVersion of every spec for the guest: Debian's crun
// 1.8.1 rejects newer ones.
const GuestVersion = "1.0.2"

// GuestBundles is where the guest's agent keeps bundles, each in a directory
// named by the id of its container.
const GuestBundles = "/run/dougong/bundles"

// GuestVolumes is where the guest's agent keeps volumes that are its own, each
// in a directory named by the host.
const GuestVolumes = "/run/dougong/volumes"

// GuestOptions is what the translation must know about the sandbox.
type GuestOptions struct {
	// ID names the container in the guest; it becomes the last part of its cgroup.
	ID string
	// Namespaces maps a namespace path of the host to the path of the same
	// namespace in the guest, for containers that share a sandbox. OfVM stands
	// for a namespace that is the VM's own.
	Namespaces map[string]string
	// OwnNetwork gives the container a network namespace of its own in the VM,
	// with nothing in it, instead of the VM's.
	OwnNetwork bool
	// PodSysctls are those of the pod whose container this is, nil for a
	// container that is on its own.
	PodSysctls map[string]string
}

// GuestPlan is a host spec taken apart: what crun gets in the guest, and what
// the sandbox must do on the host or for the VM as a whole.
type GuestPlan struct {
	// Spec is the guest's spec. The sources of Binds in it are still those of
	// the host and must be replaced before it is sent.
	Spec *specs.Spec
	// Binds are the bind mounts whose source is on the host, in mount order.
	Binds []Bind
	// Hooks are those to be run on the host: prestart, createRuntime,
	// createContainer, poststart and poststop. nil when there are none.
	Hooks *specs.Hooks
	// Devices are the host's block devices that the container has, without
	// duplicates. The sandbox attaches them, and the guest puts its own numbers
	// in the place of the host's.
	Devices []BlockDevice
	// Sysctls are to be set for the whole VM ("net.ipv4.ip_forward" style
	// names), since the VM's network is the container's.
	Sysctls map[string]string
}

// BlockDevice is a block device of the host.
type BlockDevice struct {
	Major, Minor int64
	// ReadOnly is set unless a rule of linux.resources.devices allows writing.
	ReadOnly bool
}

// Bind is a bind mount of a host path.
type Bind struct {
	// Index is the mount's place in GuestPlan.Spec.Mounts.
	Index int
	// Source is the path on the host, as the spec has it (relative ones are
	// relative to the bundle).
	Source string
	// Destination is the path in the container.
	Destination string
	// Options are the spec's own.
	Options []string
	// ReadOnly is what Options say about writing; the share on the host must
	// be read-only too.
	ReadOnly bool
	// Owners is how the owners of files are mapped before the container sees them.
	Owners Owners `json:",omitzero"`
}

// Guest translates a host spec into what the guest gets. The host spec is not
// changed. A field that would have to be dropped is errdefs.ErrNotImplemented
// and named; a spec that makes no sense is errdefs.ErrInvalidArgument.
func Guest(host *specs.Spec, opts GuestOptions) (*GuestPlan, error) {
	if err := checkSpec(host, opts); err != nil {
		return nil, err
	}
	spec := &specs.Spec{}
	if err := carry(place{}, reflect.ValueOf(host).Elem(), reflect.ValueOf(spec).Elem()); err != nil {
		return nil, err
	}
	plan := &GuestPlan{Spec: spec}
	spec.Version = GuestVersion
	if spec.Root == nil {
		spec.Root = &specs.Root{}
	}
	// In the bundle.
	spec.Root.Path = "rootfs"
	capRlimits(spec.Process)
	for _, step := range []func(*GuestPlan, GuestOptions) error{
		guestNamespaces, guestMounts, guestSysctls, guestDevices, guestResources, guestSeccomp, guestHooks, guestAnnotations,
	} {
		if err := step(plan, opts); err != nil {
			return nil, err
		}
	}
	spec.Linux.CgroupsPath = "/dougong/" + opts.ID
	plan.placeFiles(opts.ID)
	return plan, nil
}

func checkSpec(host *specs.Spec, opts GuestOptions) error {
	switch {
	case host == nil:
		return invalid("no spec")
	case !strings.HasPrefix(host.Version, "1."):
		return invalid("ociVersion %q is not 1.x", host.Version)
	case host.Linux == nil:
		return invalid("the spec has no linux section")
	case opts.ID == "" || opts.ID == "." || opts.ID == ".." || strings.ContainsAny(opts.ID, "/\x00"):
		return invalid("container id %q is not a file name", opts.ID)
	}
	return checkProcess(host.Process)
}

func checkProcess(p *specs.Process) error {
	switch {
	case p == nil:
		return invalid("the spec has no process")
	case len(p.Args) == 0:
		return invalid("process.args is empty: no command specified")
	case !strings.HasPrefix(p.Cwd, "/"):
		return invalid("process.cwd %q is not an absolute path", p.Cwd)
	}
	return nil
}

// GuestProcess translates the process of an exec, by the same rows of the
// table as a container's own process.
func GuestProcess(host *specs.Process) (*specs.Process, error) {
	if err := checkProcess(host); err != nil {
		return nil, err
	}
	p := &specs.Process{}
	at := place{"process", "process"}
	if err := carry(at, reflect.ValueOf(host).Elem(), reflect.ValueOf(p).Elem()); err != nil {
		return nil, err
	}
	capRlimits(p)
	return p, nil
}

// maxOpenFiles is the default of fs.nr_open, above which setrlimit fails in
// the guest. Hosts with systemd hand out far more.
const maxOpenFiles = 1 << 20

func capRlimits(p *specs.Process) {
	for i := range p.Rlimits {
		if l := &p.Rlimits[i]; l.Type == "RLIMIT_NOFILE" {
			l.Hard, l.Soft = min(l.Hard, maxOpenFiles), min(l.Soft, maxOpenFiles)
		}
	}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}
