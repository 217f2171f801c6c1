package shim

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/sandbox"
)

// creation is a Create that is under way or has succeeded.
type creation struct {
	bundle string
	done   chan struct{}
	resp   *task.CreateTaskResponse
}

// Create makes a container; the first one boots the VM. A caller that has lost
// patience may ask again: it then waits for the first call, and gets its answer
// as long as the container was not started.
func (s *Service) Create(ctx context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	for {
		other, mine := s.beginCreation(r)
		if mine != nil {
			resp, err := s.create(ctx, r)
			s.endCreation(r.ID, mine, resp)
			return resp, refuse(err)
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if other.resp != nil {
			return s.createdBefore(r, other)
		}
		// The first call has failed, perhaps only for want of time.
	}
}

// beginCreation returns the creation of this container that there is, or a new
// one.
func (s *Service) beginCreation(r *task.CreateTaskRequest) (other, mine *creation) {
	s.creating.Lock()
	defer s.creating.Unlock()
	if c := s.creations[r.ID]; c != nil {
		return c, nil
	}
	c := &creation{bundle: r.Bundle, done: make(chan struct{})}
	if s.creations == nil {
		s.creations = make(map[string]*creation)
	}
	s.creations[r.ID] = c
	return nil, c
}

// endCreation keeps a creation that has succeeded until the container goes.
func (s *Service) endCreation(id string, c *creation, resp *task.CreateTaskResponse) {
	s.creating.Lock()
	defer s.creating.Unlock()
	c.resp = resp
	if resp == nil {
		delete(s.creations, id)
	}
	close(c.done)
}

// createdBefore answers a Create that is repeated.
func (s *Service) createdBefore(r *task.CreateTaskRequest, c *creation) (*task.CreateTaskResponse, error) {
	container, err := s.container(r.ID)
	if err == nil && c.bundle == r.Bundle && container.Init().State() == sandbox.Created {
		return c.resp, nil
	}
	return nil, fmt.Errorf("container %s: %w", r.ID, errdefs.ErrAlreadyExists)
}

// busy reports whether there is a container, or one is being made.
func (s *Service) busy() bool {
	s.creating.Lock()
	defer s.creating.Unlock()
	return len(s.creations) > 0
}
