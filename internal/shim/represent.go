package shim

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/sandbox"
)

// hostPID is what hooks are told as the process of a container: the stand-in,
// or before the container is made one that only has its network namespace.
func (s *Service) hostPID(c *sandbox.Container) (int, error) {
	if pid := s.standInPID(c.ID); pid != 0 {
		return int(pid), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if early := s.early[c.ID]; early != nil {
		return early.PID(), nil
	}
	root, err := standInRoot(c.Bundle, c.HostRoot())
	if err != nil {
		return 0, err
	}
	early, err := stand{Args: []string{standInName, c.ID}, Root: root, Net: netOf(c.Outline())}.start()
	if err != nil {
		return 0, err
	}
	if s.early == nil {
		s.early = make(map[string]*standIn)
	}
	s.early[c.ID] = early
	return early.PID(), nil
}

// peer is the container whose process a process of the host stands for, "" for
// any other process.
func (s *Service) peer(pid int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, l := range s.lives {
		if l.standIn.PID() == pid {
			return id
		}
	}
	return ""
}

// endEarly ends the stand-in that hooks of the creation were told.
func (s *Service) endEarly(id string) {
	s.mu.Lock()
	early := s.early[id]
	delete(s.early, id)
	s.mu.Unlock()
	if early != nil {
		early.Kill()
	}
}

// standFor starts the stand-in of a container's first process.
func (s *Service) standFor(c *sandbox.Container) (*standIn, error) {
	root, err := standInRoot(c.Bundle, c.HostRoot())
	if err != nil {
		return nil, err
	}
	spec := c.Outline()
	st := stand{PID: int(c.Init().PID()), Root: root, Net: netOf(spec)}
	if spec.Process != nil {
		st.Args = spec.Process.Args
		st.UID, st.GID = mapped(spec.Process.User.UID, uidMappings(spec)), mapped(spec.Process.User.GID, gidMappings(spec))
	}
	s.mu.Lock()
	if early := s.early[c.ID]; early != nil {
		st.Net = fmt.Sprintf("/proc/%d/ns/net", early.PID())
	}
	s.mu.Unlock()
	return st.start()
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
