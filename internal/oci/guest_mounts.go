package oci

import (
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Sources of mounts that the guest agent resolves itself.
const (
	// FilesPrefix starts the source of a bind of a small file that is sent
	// along with the spec.
	FilesPrefix = "files:"
	// InitSource is the agent binary's path in the guest, bound to InitPath
	// in containers run with --init.
	InitSource = "/init"
	// InitPath is where a container finds that binary.
	InitPath = "/sbin/dougong-init"
)

// mountFlags are the options that any mount may carry.
var mountFlags = []string{
	"defaults", "bind", "rbind", "ro", "rw", "rro", "rrw", "nosuid", "suid", "nodev", "dev", "noexec", "exec",
	"rnosuid", "rsuid", "rnodev", "rdev", "rnoexec", "rexec", "sync", "async", "dirsync",
	"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
	"private", "rprivate", "slave", "rslave", "unbindable", "runbindable",
}

// mountData are the options, up to "=", that go to one type's file system.
var mountData = map[string][]string{
	"proc":   {"hidepid=", "gid=", "subset="},
	"sysfs":  nil,
	"cgroup": nil,
	"mqueue": nil,
	"devpts": {"newinstance", "ptmxmode=", "mode=", "gid=", "uid=", "max="},
	"tmpfs":  {"size=", "nr_blocks=", "nr_inodes=", "mode=", "uid=", "gid=", "huge=", "tmpcopyup"},
	"bind":   nil,
}

func guestMounts(plan *GuestPlan, opts GuestOptions) error {
	for i := range plan.Spec.Mounts {
		m := &plan.Spec.Mounts[i]
		if !strings.HasPrefix(m.Destination, "/") {
			return invalid("mounts[%d].destination %q is not an absolute path", i, m.Destination)
		}
		m.Type = mountType(*m)
		owners, err := takeOwners(i, m, plan.Spec.Linux)
		if err == nil {
			err = checkMount(i, *m)
		}
		if err != nil {
			return err
		}
		if m.Type == "sysfs" && !opts.OwnNetwork && hasUsers(plan.Spec.Linux) {
			m.Options = append(slices.DeleteFunc(m.Options, func(o string) bool { return o == "rw" }), "ro")
		}
		if m.Type != "bind" {
			continue
		}
		if !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
			m.Options = append(m.Options, "bind")
		}
		if m.Source == "" {
			return invalid("mounts[%d]: the bind to %q has no source", i, m.Destination)
		}
		if !inGuest(*m) {
			plan.Binds = append(plan.Binds, Bind{
				Index: i, Source: m.Source, Destination: m.Destination,
				Options: slices.Clone(m.Options), ReadOnly: readOnly(m.Options), Owners: owners,
			})
		}
	}
	return nil
}

// hasUsers reports whether a container has a user namespace. Without a network
// namespace that belongs to it, it cannot mount a sysfs: crun shows it the machine's,
// if it is to be for reading only. Nothing in that is such a container's to write to.
func hasUsers(linux *specs.Linux) bool {
	return slices.ContainsFunc(linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace })
}

// mountType is the type the guest mounts: a spec may call a bind "none", or
// nothing at all, and the guest's cgroup tree is v2 whatever the host has.
func mountType(m specs.Mount) string {
	switch {
	case slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind"):
		return "bind"
	case m.Type == "cgroup2":
		return "cgroup"
	default:
		return m.Type
	}
}

func checkMount(i int, m specs.Mount) error {
	data, ok := mountData[m.Type]
	if !ok {
		return unsupported(fmt.Sprintf("mounts[%d].type %q", i, m.Type), "only proc, sysfs, cgroup, tmpfs, mqueue, devpts and bind mounts can be made for a container")
	}
	for _, o := range m.Options {
		key := o
		if k, _, ok := strings.Cut(o, "="); ok {
			key = k + "="
		}
		switch {
		case slices.Contains(mountFlags, key), slices.Contains(data, key):
		case (o == "shared" || o == "rshared") && m.Type != "bind":
			// What is made for the container alone has no other end on the host.
		case o == "shared" || o == "rshared":
			return unsupported(fmt.Sprintf("mounts[%d].options %q", i, o), "mounts do not propagate out of a VM")
		default:
			return unsupported(fmt.Sprintf("mounts[%d].options %q", i, o), "this option is not known for a "+m.Type+" mount")
		}
	}
	return nil
}

// plainNodes are device nodes that are the same on every machine; binds of them
// hide files.
var plainNodes = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// inGuest reports whether a bind's source is found in the guest already.
func inGuest(m specs.Mount) bool {
	return slices.Contains(plainNodes, m.Source) || strings.HasPrefix(m.Source, FilesPrefix) || m.Source == InitSource && m.Destination == InitPath
}

// GuestFile is where the agent puts a small file that is sent along with the
// spec of a container.
func GuestFile(id, name string) string { return path.Join(GuestBundles, id, "files", name) }

// placeFiles names the small files by where the agent puts them.
func (p *GuestPlan) placeFiles(id string) {
	for i := range p.Spec.Mounts {
		m := &p.Spec.Mounts[i]
		if name, ok := strings.CutPrefix(m.Source, FilesPrefix); ok {
			m.Source = GuestFile(id, name)
		}
	}
}

// recursiveFlags are the options that are for the mounts below, too.
var recursiveFlags = []string{"rro", "rrw", "rnosuid", "rsuid", "rnodev", "rdev", "rnoexec", "rexec"}

// WithoutRecursion are the options for a bind of a single file: nothing is
// mounted below one, and crun sets recursive options for directories only.
func WithoutRecursion(options []string) []string {
	plain := slices.Clone(options)
	for i, o := range plain {
		if slices.Contains(recursiveFlags, o) {
			plain[i] = o[1:]
		}
	}
	return plain
}

// readOnly reports what the last word of options on writing is.
func readOnly(options []string) bool {
	ro := false
	for _, o := range options {
		switch o {
		case "ro", "rro":
			ro = true
		case "rw", "rrw":
			ro = false
		}
	}
	return ro
}
