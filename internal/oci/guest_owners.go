package oci

import (
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Owners maps the owners of a bind's files to those that the container's user
// namespace knows. Without mappings they stay what they are.
type Owners struct {
	UIDs, GIDs []specs.LinuxIDMapping
	// Below extends it to the mounts below the source.
	Below bool
}

// mapOptions ask for a mapping, the latter for one of the mounts below, too.
var mapOptions = []string{"idmap", "ridmap"}

// takeOwners takes the mapping out of a mount: it is made where the guest gets the
// files from. Options without mappings mean those of the container.
func takeOwners(i int, m *specs.Mount, linux *specs.Linux) (Owners, error) {
	o := Owners{UIDs: m.UIDMappings, GIDs: m.GIDMappings, Below: slices.Contains(m.Options, "ridmap")}
	asked := slices.ContainsFunc(m.Options, isMapOption)
	if asked && len(o.UIDs)+len(o.GIDs) == 0 {
		o.UIDs, o.GIDs = linux.UIDMappings, linux.GIDMappings
	}
	m.UIDMappings, m.GIDMappings, m.Options = nil, nil, slices.DeleteFunc(m.Options, isMapOption)
	switch {
	case !asked && len(o.UIDs)+len(o.GIDs) == 0:
		return Owners{}, nil
	case m.Type != "bind":
		return o, unsupported(fmt.Sprintf("mounts[%d].uidMappings", i), "only binds have owners that can be mapped, and this is of type "+m.Type)
	case len(o.UIDs) == 0 || len(o.GIDs) == 0:
		return o, invalid("mounts[%d]: to map the owners of %q takes mappings of users and of groups", i, m.Destination)
	}
	return o, nil
}

func isMapOption(o string) bool { return slices.Contains(mapOptions, o) }
