package ocirun

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/record"
)

// State is what the commands state and list tell, as runc does.
type State struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	PID         int               `json:"pid"`
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

// Stopped is the status of a container that has ended, paused of one that does
// not go on for now; the others are the specification's.
const (
	Creating = string(specs.StateCreating)
	Created  = string(specs.StateCreated)
	Running  = string(specs.StateRunning)
	Stopped  = string(specs.StateStopped)
	Paused   = "paused"
)

// State looks a container up.
func (r *Runtime) State(ctx context.Context, id string) (*State, error) {
	dir, err := r.Engine.Root.Get(id)
	if err != nil {
		return nil, err
	}
	return r.stateOf(ctx, dir)
}

func (r *Runtime) stateOf(ctx context.Context, dir record.Dir) (*State, error) {
	status, err := r.Engine.Status(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &State{
		Version: oci.GuestVersion, ID: dir.ID, Status: statusOf(status), Bundle: status.Record.Given,
		Created: status.Record.Created, Owner: "root",
	}
	if s.Bundle == "" {
		s.Bundle = dir.Bundle()
	}
	if s.Status != Stopped {
		s.PID = status.TaskPID
	}
	// A bundle may go before its container does.
	if spec, err := engine.Spec(dir); err == nil && spec.Root != nil {
		s.Annotations, s.Rootfs = spec.Annotations, rootOf(s.Bundle, spec)
	}
	return s, nil
}

// statusOf says in the specification's words where a container is in its life.
func statusOf(s *engine.Status) string {
	switch {
	case s.State == "exited":
		return Stopped
	case s.PID != 0:
		return s.State
	case s.Dir.Alive():
		return Creating
	}
	// Its sandbox process was killed.
	return Stopped
}

// List looks at all containers. One that goes meanwhile is left out.
func (r *Runtime) List(ctx context.Context) ([]*State, error) {
	dirs, err := r.Engine.Root.List()
	if err != nil {
		return nil, err
	}
	list := []*State{}
	for _, dir := range dirs {
		if s, err := r.stateOf(ctx, dir); err == nil {
			list = append(list, s)
		}
	}
	return list, nil
}

// dial connects to the sandbox of a container.
func (r *Runtime) dial(id string) (record.Dir, *engine.Client, error) {
	dir, err := r.Engine.Root.Get(id)
	if err != nil {
		return record.Dir{}, nil, err
	}
	client, err := engine.Dial(dir)
	if err != nil {
		return record.Dir{}, nil, fmt.Errorf("container not running: %s: %w", id, errdefs.ErrFailedPrecondition)
	}
	return dir, client, nil
}
