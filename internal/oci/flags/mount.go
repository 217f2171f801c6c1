package flags

import (
	"strconv"
	"strings"

	"dougong.dev/dougong/internal/oci"
)

// ParseMount reads the value of --mount: comma-separated KEY=VALUE, with type
// bind, volume (the default) or tmpfs. Source is returned as given.
func ParseMount(s string) (oci.Mount, error) {
	m := oci.Mount{Type: oci.MountVolume}
	seen := map[string]bool{}
	for field := range strings.SplitSeq(s, ",") {
		key, value, has := strings.Cut(field, "=")
		key = mountKey(strings.ToLower(strings.TrimSpace(key)))
		if seen[key] {
			return m, invalid("mount %q: %q is given twice", s, key)
		}
		seen[key] = true
		if err := mountField(&m, s, key, value, has); err != nil {
			return m, err
		}
	}
	return m, checkMount(s, m, seen)
}

// mountKey is the one name of keys that have several.
func mountKey(key string) string {
	switch key {
	case "src":
		return "source"
	case "dst", "destination":
		return "target"
	case "ro":
		return "readonly"
	}
	return key
}

func mountField(m *oci.Mount, s, key, value string, has bool) error {
	if !has && key != "readonly" && key != "volume-nocopy" {
		return invalid("mount %q: %q is not KEY=VALUE", s, key)
	}
	var err error
	switch key {
	case "type":
		m.Type = oci.MountType(value)
	case "source":
		m.Source = value
	case "target":
		m.Target = value
	case "readonly":
		m.ReadOnly = true
		if has {
			m.ReadOnly, err = parseBool(value)
		}
	case "bind-propagation":
		m.Options, err = propagation(value)
	case "tmpfs-size":
		m.Size, err = ParseSize(value)
	case "tmpfs-mode":
		m.Mode, err = parseMode(value)
	case "consistency", "volume-nocopy":
	default:
		return invalid("mount %q: unknown key %q", s, key)
	}
	if err != nil {
		return invalid("mount %q: %s %q is not understood", s, key, value)
	}
	return nil
}

func checkMount(s string, m oci.Mount, seen map[string]bool) error {
	for key, kind := range map[string]oci.MountType{"tmpfs-size": oci.MountTmpfs, "tmpfs-mode": oci.MountTmpfs, "bind-propagation": oci.MountBind} {
		if seen[key] && m.Type != kind {
			return invalid("mount %q: %s is for type=%s only", s, key, kind)
		}
	}
	switch {
	case m.Type != oci.MountBind && m.Type != oci.MountVolume && m.Type != oci.MountTmpfs:
		return invalid("mount %q: type %q is none of bind, volume and tmpfs", s, m.Type)
	case m.Type == oci.MountBind && m.Source == "":
		return invalid("mount %q: a bind needs a source", s)
	case m.Type == oci.MountTmpfs && m.Source != "":
		return invalid("mount %q: a tmpfs has no source", s)
	case m.Type == oci.MountVolume && m.Source != "" && !isVolumeName(m.Source):
		return invalid("mount %q: %q is no volume's name; for a path say type=bind", s, m.Source)
	case m.Target == "":
		return invalid("mount %q: target is missing", s)
	}
	return checkTarget("mount", s, m.Target)
}

func propagation(value string) ([]string, error) {
	switch value {
	case "private", "rprivate", "slave", "rslave":
		return []string{value}, nil
	}
	return nil, invalid("propagation %q", value)
}

func parseBool(value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	return b, err
}

// parseMode reads an octal mode, at most 7777.
func parseMode(value string) (uint32, error) {
	mode, err := strconv.ParseUint(value, 8, 12)
	return uint32(mode), err
}

// ParseTmpfs reads PATH[:OPTION,…] with mount options as of mount(8).
func ParseTmpfs(s string) (oci.Mount, error) {
	target, options, _ := strings.Cut(s, ":")
	m := oci.Mount{Type: oci.MountTmpfs, Target: target}
	if err := checkTarget("tmpfs", s, target); err != nil {
		return m, err
	}
	if options == "" {
		return m, nil
	}
	for o := range strings.SplitSeq(options, ",") {
		if err := tmpfsOption(&m, s, o); err != nil {
			return m, err
		}
	}
	return m, nil
}

func tmpfsOption(m *oci.Mount, s, option string) error {
	key, value, has := strings.Cut(option, "=")
	var err error
	switch {
	case key == "size" && has && strings.HasSuffix(value, "%"):
		_, err = strconv.ParseUint(strings.TrimSuffix(value, "%"), 10, 7)
		m.Options = append(m.Options, option)
	case key == "size" && has:
		m.Size, err = ParseSize(value)
	case key == "mode" && has:
		m.Mode, err = parseMode(value)
	case (key == "uid" || key == "gid") && has:
		_, err = strconv.ParseUint(value, 10, 32)
		m.Options = append(m.Options, option)
	case (key == "nr_inodes" || key == "nr_blocks") && has:
		_, err = ParseSize(value)
		m.Options = append(m.Options, option)
	default:
		return tmpfsWord(m, s, option)
	}
	if err != nil {
		return invalid("tmpfs %q: %s %q is not understood", s, key, value)
	}
	return nil
}

func tmpfsWord(m *oci.Mount, s, option string) error {
	switch option {
	case "ro", "rw":
		m.ReadOnly = option == "ro"
	case "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "atime", "noatime",
		"diratime", "nodiratime", "relatime", "strictatime", "private", "rprivate", "slave", "rslave":
		m.Options = append(m.Options, option)
	default:
		return invalid("tmpfs %q: unknown option %q", s, option)
	}
	return nil
}
