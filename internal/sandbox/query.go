package sandbox

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// Containers counts the containers, those that are being made included.
func (s *Sandbox) Containers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.containers)
}

// Spent reports whether the sandbox has ended without a container left in it,
// so that its place may be taken by another one.
func (s *Sandbox) Spent() bool {
	return s.life.get() == Stopped && s.Containers() == 0
}

// Deletable returns errdefs.ErrFailedPrecondition while the process runs.
func (p *Process) Deletable() error {
	if state := p.State(); state == Running || state == Paused {
		return fmt.Errorf("delete %s: it is %s; stop it first: %w", p.life.what, state, errdefs.ErrFailedPrecondition)
	}
	return nil
}
