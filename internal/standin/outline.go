package standin

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Of is the stand-in of a container's first process, but for its root.
func Of(spec *specs.Spec) Spec {
	s := Spec{Net: NetOf(spec)}
	if spec.Process != nil {
		s.Args = spec.Process.Args
		s.UID, s.GID = mapped(spec.Process.User.UID, uidMappings(spec)), mapped(spec.Process.User.GID, gidMappings(spec))
	}
	return s
}

// NetOf is the network namespace that a spec asks for.
func NetOf(spec *specs.Spec) string {
	if spec.Linux == nil {
		return ""
	}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type != specs.NetworkNamespace {
			continue
		}
		if ns.Path == "" {
			return NewNet
		}
		return ns.Path
	}
	return ""
}

// mapped is the id outside of a user namespace, where there is one.
func mapped(id uint32, mappings []specs.LinuxIDMapping) uint32 {
	for _, m := range mappings {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + id - m.ContainerID
		}
	}
	return id
}

func uidMappings(spec *specs.Spec) []specs.LinuxIDMapping {
	if spec.Linux == nil {
		return nil
	}
	return spec.Linux.UIDMappings
}

func gidMappings(spec *specs.Spec) []specs.LinuxIDMapping {
	if spec.Linux == nil {
		return nil
	}
	return spec.Linux.GIDMappings
}
