package shim

import (
	"cmp"
	"fmt"

	"dougong.dev/dougong/internal/child"
	"dougong.dev/dougong/internal/sandbox"
	"dougong.dev/dougong/internal/standin"
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
	early, err := standin.Spec{Args: []string{standin.Name, c.ID}, Root: root, Net: netOf(c)}.Start()
	if err != nil {
		return 0, err
	}
	if s.early == nil {
		s.early = make(map[string]*child.Process)
	}
	s.early[c.ID] = early
	return early.PID(), nil
}

// netOf is the network namespace of a container on the host: the sandbox's,
// where it has one.
func netOf(c *sandbox.Container) string {
	return cmp.Or(c.NetworkPath(), standin.NetOf(c.Outline()))
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
	for key, x := range s.proxies {
		if key.execID == "" && x.pid == pid {
			return key.id
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
func (s *Service) standFor(c *sandbox.Container) (*child.Process, error) {
	root, err := standInRoot(c.Bundle, c.HostRoot())
	if err != nil {
		return nil, err
	}
	st := standin.Of(c.Outline())
	st.PID, st.Root, st.Net = int(c.Init().PID()), root, netOf(c)
	s.mu.Lock()
	if early := s.early[c.ID]; early != nil && st.Net == standin.NewNet {
		st.Net = fmt.Sprintf("/proc/%d/ns/net", early.PID())
	}
	s.mu.Unlock()
	return st.Start()
}
