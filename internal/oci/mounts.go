package oci

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// MountType is what a Mount is made of.
type MountType string

// The types of mounts a user can ask for.
const (
	// MountBind makes a path of the host visible.
	MountBind MountType = "bind"
	// MountVolume is an anonymous volume: it starts with what the image has
	// there and ends with the container. Named volumes are directories of
	// the host, and the caller makes binds of them.
	MountVolume MountType = "volume"
	// MountTmpfs is an empty file system in memory.
	MountTmpfs MountType = "tmpfs"
)

// Mount is one mount that a user asks for.
type Mount struct {
	Type MountType
	// Source is a host path for a bind, or a volume's name; else empty.
	Source string
	// Target is the absolute path in the container.
	Target   string
	ReadOnly bool
	// Options go to the mount as they are, after Dougong's own.
	Options []string
	// Size in bytes and Mode bound a tmpfs; 0 leaves them to the kernel.
	Size int64
	Mode uint32
}

// fileTargets are the container's paths of what Files renders.
var fileTargets = map[string]string{
	"/etc/resolv.conf": FilesPrefix + "resolv.conf",
	"/etc/hostname":    FilesPrefix + "hostname",
	"/etc/hosts":       FilesPrefix + "hosts",
}

// generateMounts lists the default mounts, less those a user replaces, then
// the user's and the image's volumes, parents before children.
func generateMounts(image imagespec.ImageConfig, run RunOptions) ([]specs.Mount, error) {
	wanted, err := wantedMounts(image, run)
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(defaultMounts(run.Privileged), func(m specs.Mount) bool { _, ok := wanted[m.Destination]; return ok })
	targets := slices.SortedFunc(maps.Keys(wanted), func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/")), cmp.Compare(a, b))
	})
	for _, t := range targets {
		out = append(out, wanted[t])
	}
	if run.Init {
		out = append(out, specs.Mount{Destination: InitPath, Type: "bind", Source: InitSource, Options: []string{"bind", "ro", "nosuid", "nodev", "rprivate"}})
	}
	return out, nil
}

// wantedMounts are those that are not the same for all containers, by target.
func wantedMounts(image imagespec.ImageConfig, run RunOptions) (map[string]specs.Mount, error) {
	wanted := map[string]specs.Mount{}
	for _, m := range run.Mounts {
		target, err := checkTarget(m.Target)
		if err != nil {
			return nil, err
		}
		if _, taken := wanted[target]; taken || run.Init && target == InitPath {
			return nil, invalid("duplicate mount point %q: give each path in the container only one mount", target)
		}
		if wanted[target], err = specMount(m, target); err != nil {
			return nil, err
		}
	}
	for v := range image.Volumes {
		target, err := checkTarget(path.Clean("/" + v))
		if err != nil {
			return nil, fmt.Errorf("volume %q of the image: %w", v, err)
		}
		if _, covered := wanted[target]; !covered {
			wanted[target] = volumeMount(target)
		}
	}
	for target, source := range fileTargets {
		if _, covered := wanted[target]; !covered {
			wanted[target] = specs.Mount{Destination: target, Type: "bind", Source: source, Options: []string{"rbind", "rprivate"}}
		}
	}
	return wanted, nil
}

func checkTarget(target string) (string, error) {
	clean := path.Clean(target)
	switch {
	case !path.IsAbs(target) || strings.ContainsRune(target, 0):
		return "", invalid("mount target %q is not an absolute path in the container", target)
	case clean == "/":
		return "", invalid("mount target %q is the root of the container, which is the image", target)
	case clean == "/proc" || strings.HasPrefix(clean, "/proc/"):
		return "", invalid("mount target %q is in /proc, which is the kernel's", target)
	}
	return clean, nil
}

func specMount(m Mount, target string) (specs.Mount, error) {
	switch m.Type {
	case MountBind:
		return bindMount(m, target)
	case MountTmpfs:
		return tmpfsMount(m, target)
	case MountVolume:
		if m.Source != "" {
			return specs.Mount{}, invalid("volume %q at %q has no directory on the host yet", m.Source, target)
		}
		out := volumeMount(target)
		out.Options = append(out.Options, m.Options...)
		if m.ReadOnly {
			out.Options = append(out.Options, "ro")
		}
		return out, nil
	default:
		return specs.Mount{}, invalid("mount type %q at %q is none of bind, volume and tmpfs", m.Type, target)
	}
}

func bindMount(m Mount, target string) (specs.Mount, error) {
	if !path.IsAbs(m.Source) {
		return specs.Mount{}, invalid("bind source %q for %q is not an absolute path", m.Source, target)
	}
	options := []string{"rbind", "rprivate", "rw"}
	if m.ReadOnly {
		// With all that is mounted below, as Docker has it.
		options[2] = "rro"
	}
	return specs.Mount{Destination: target, Type: "bind", Source: m.Source, Options: append(options, m.Options...)}, nil
}

// tmpfsMount gives Docker's defaults, which Options may turn round.
func tmpfsMount(m Mount, target string) (specs.Mount, error) {
	if m.Source != "" {
		return specs.Mount{}, invalid("a tmpfs has no source, but the one at %q was given %q", target, m.Source)
	}
	options := slices.Concat([]string{"noexec", "nosuid", "nodev", "rprivate"}, m.Options)
	for _, no := range []string{"noexec", "nosuid", "nodev"} {
		if slices.Contains(m.Options, strings.TrimPrefix(no, "no")) {
			options = slices.DeleteFunc(options, func(o string) bool { return o == no })
		}
	}
	if m.Size < 0 {
		return specs.Mount{}, invalid("size %d of the tmpfs at %q is negative", m.Size, target)
	}
	if m.Size > 0 {
		options = append(options, fmt.Sprintf("size=%d", m.Size))
	}
	if m.Mode > 0 {
		options = append(options, fmt.Sprintf("mode=%o", m.Mode))
	}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	return specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: options}, nil
}

// volumeMount is a tmpfs that starts with what the image has at target.
func volumeMount(target string) specs.Mount {
	return specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: []string{"nodev", "rprivate", "tmpcopyup"}}
}

// defaultMounts are those of every container.
func defaultMounts(privileged bool) []specs.Mount {
	kernel := []string{"nosuid", "noexec", "nodev", "ro"}
	if privileged {
		kernel = kernel[:3:3]
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: kernel},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: slices.Clone(kernel)},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=67108864"}},
	}
}
