package cgroup

import (
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups/systemd"
)

// Place is where a cgroup is. The zero value is none: processes stay where
// they are.
type Place struct {
	// Path is below the root of each hierarchy.
	Path string
	// Slice, Prefix and Name are systemd's: the scope Prefix-Name in Slice.
	Slice, Prefix, Name string
}

// Parse reads the cgroupsPath of an OCI spec: a path, or systemd's
// "slice:prefix:name". Without one the sandbox is called id below parent; an
// empty parent has no cgroup made. A relative path is below parent too.
func Parse(cgroupsPath, parent, id string) (Place, error) {
	switch {
	case strings.ContainsRune(cgroupsPath, 0):
		return Place{}, invalid(cgroupsPath, "it has a NUL byte")
	case cgroupsPath == "" && parent == "":
		return Place{}, nil
	case cgroupsPath == "":
		return Place{Path: path.Join("/", parent, id)}, nil
	case strings.Contains(cgroupsPath, ":"):
		return parseUnit(cgroupsPath)
	}
	p := path.Clean("/" + cgroupsPath)
	if !path.IsAbs(cgroupsPath) {
		p = path.Join("/", parent, p)
	}
	if p == "/" {
		return Place{}, invalid(cgroupsPath, "it is the root, which is everybody's")
	}
	return Place{Path: p}, nil
}

func parseUnit(cgroupsPath string) (Place, error) {
	parts := strings.Split(cgroupsPath, ":")
	if len(parts) != 3 || parts[2] == "" || strings.ContainsRune(cgroupsPath, '/') {
		return Place{}, invalid(cgroupsPath, "want a path, or systemd's slice:prefix:name")
	}
	p := Place{Slice: parts[0], Prefix: parts[1], Name: parts[2]}
	if p.Slice == "" {
		p.Slice = "system.slice"
	}
	if _, err := systemd.ExpandSlice(p.Slice); err != nil {
		return Place{}, invalid(cgroupsPath, err.Error())
	}
	return p, nil
}

func invalid(cgroupsPath, why string) error {
	return fmt.Errorf("linux.cgroupsPath %q: %s: %w", cgroupsPath, why, errdefs.ErrInvalidArgument)
}

// IsNone reports whether there is no cgroup to be made.
func (p Place) IsNone() bool { return p == Place{} }

// String is the cgroup's name in messages.
func (p Place) String() string {
	if p.Slice != "" {
		return p.Slice + "/" + p.unit()
	}
	return p.Path
}

// unit is systemd's name of the cgroup.
func (p Place) unit() string {
	switch {
	case strings.HasSuffix(p.Name, ".slice") || p.Prefix == "" && strings.HasSuffix(p.Name, ".scope"):
		return p.Name
	case p.Prefix == "":
		return p.Name + ".scope"
	}
	return p.Prefix + "-" + p.Name + ".scope"
}

// plain is the same place for a host whose cgroups systemd does not manage:
// the path that systemd would have made.
func (p Place) plain() Place {
	if p.Slice == "" {
		return p
	}
	// parseUnit has tried it.
	slice, _ := systemd.ExpandSlice(p.Slice)
	return Place{Path: path.Join("/", slice, p.unit())}
}
