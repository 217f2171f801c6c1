package flags

import (
	"path"
	"slices"
	"strings"

	"dougong.dev/dougong/internal/oci"
)

// Volume is a parsed -v.
type Volume struct {
	// Source is a path as given, perhaps relative, or a volume's name; empty
	// for an anonymous volume.
	Source string
	// Named says that Source is a volume's name and not a path.
	Named bool
	// Target is the path in the container.
	Target   string
	ReadOnly bool
	// Options are the propagation options given.
	Options []string
}

// Mount is the volume as a mount, for a source that is resolved: the host
// path of a directory, or "" for an anonymous volume.
func (v Volume) Mount(source string) oci.Mount {
	m := oci.Mount{Type: oci.MountBind, Source: source, Target: v.Target, ReadOnly: v.ReadOnly, Options: v.Options}
	if source == "" {
		m.Type = oci.MountVolume
	}
	return m
}

// ParseVolume reads [SRC:]DST[:OPTION,…]. The options are ro, rw, the
// propagations private, rprivate, slave and rslave, and z, Z, nocopy, cached,
// delegated and consistent, which ask for nothing here.
func ParseVolume(s string) (Volume, error) {
	parts := strings.Split(s, ":")
	v := Volume{}
	switch {
	case len(parts) == 1:
		v.Target = parts[0]
	case len(parts) == 2 && !path.IsAbs(parts[1]):
		return v, invalid("volume %q: the path in the container, %q, must start with /", s, parts[1])
	case len(parts) <= 3:
		v.Source, v.Target = parts[0], parts[1]
	default:
		return v, invalid("volume %q has too many colons: it is [SOURCE:]TARGET[:OPTIONS]", s)
	}
	if len(parts) == 3 {
		if err := v.parseOptions(s, parts[2]); err != nil {
			return v, err
		}
	}
	if len(parts) > 1 && v.Source == "" {
		return v, invalid("volume %q has an empty source", s)
	}
	if err := checkTarget("volume", s, v.Target); err != nil {
		return v, err
	}
	v.Named = v.Source != "" && !strings.HasPrefix(v.Source, ".") && !strings.ContainsRune(v.Source, '/')
	if v.Named && !isVolumeName(v.Source) {
		return v, invalid("volume %q: %q is neither a path nor a volume's name (write ./%s for a directory)", s, v.Source, v.Source)
	}
	return v, nil
}

func (v *Volume) parseOptions(s, options string) error {
	var mode string
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "ro", "rw":
			if mode != "" {
				return invalid("volume %q says both %s and %s", s, mode, o)
			}
			mode, v.ReadOnly = o, o == "ro"
		case "private", "rprivate", "slave", "rslave":
			v.Options = append(v.Options, o)
		case "shared", "rshared":
			return invalid("volume %q: mounts do not propagate out of a VM, so %q cannot be given", s, o)
		case "z", "Z", "nocopy", "cached", "delegated", "consistent":
		default:
			return invalid("volume %q: unknown option %q: use ro or rw", s, o)
		}
	}
	return nil
}

func checkTarget(what, s, target string) error {
	if !path.IsAbs(target) || strings.ContainsRune(target, 0) {
		return invalid("%s %q: the path in the container, %q, must start with /", what, s, target)
	}
	if path.Clean(target) == "/" {
		return invalid("%s %q: the path in the container must not be /", what, s)
	}
	return nil
}

// isVolumeName holds names against Docker's [a-zA-Z0-9][a-zA-Z0-9_.-]+.
func isVolumeName(s string) bool {
	word := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' }
	runes := []rune(s)
	return len(runes) > 1 && word(runes[0]) && !slices.ContainsFunc(runes, func(r rune) bool { return !word(r) && !strings.ContainsRune("_.-", r) })
}
