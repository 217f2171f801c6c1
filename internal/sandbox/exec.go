package sandbox

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"dougong.dev/dougong/internal/oci"
)

// Exec adds a process to a running container; it waits for Start. The spec is
// an OCI process as JSON. Stdio is closed by the sandbox, also on failure.
func (c *Container) Exec(ctx context.Context, execID string, terminal bool, stdio Stdio, spec *anypb.Any) error {
	guest, err := guestProcess(spec)
	if err != nil {
		stdio.Close()
		return fmt.Errorf("exec in container %s: %w", c.ID, err)
	}
	p := newProcess(c, execID, terminal, stdio)
	if err := c.addExec(p); err != nil {
		stdio.Close()
		return err
	}
	err = p.create(ctx, func(ctx context.Context, io streamIDs) (uint32, error) {
		_, err := c.task().Exec(ctx, &task.ExecProcessRequest{
			ID: c.ID, ExecID: execID, Terminal: terminal, Spec: guest,
			Stdin: io.stdin, Stdout: io.stdout, Stderr: io.stderr,
		})
		return 0, err
	})
	if err != nil {
		c.removeExec(execID)
		return fmt.Errorf("exec in container %s: %w", c.ID, err)
	}
	return nil
}

// guestProcess translates the host's process into the guest's.
func guestProcess(spec *anypb.Any) (*anypb.Any, error) {
	var host specs.Process
	if err := json.Unmarshal(spec.GetValue(), &host); err != nil {
		return nil, fmt.Errorf("read OCI process: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	process, err := oci.GuestProcess(&host)
	if err != nil {
		return nil, fmt.Errorf("OCI process: %w", err)
	}
	value, err := json.Marshal(process)
	if err != nil {
		return nil, fmt.Errorf("encode OCI process: %w", err)
	}
	return &anypb.Any{TypeUrl: spec.GetTypeUrl(), Value: value}, nil
}

func (c *Container) addExec(p *Process) error {
	if state := c.init.State(); state != Running {
		return fmt.Errorf("exec in container %s: it is %s: %w", c.ID, state, errdefs.ErrFailedPrecondition)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.execs[p.execID]; taken {
		return fmt.Errorf("process %s in container %s: %w", p.execID, c.ID, errdefs.ErrAlreadyExists)
	}
	c.execs[p.execID] = p
	return nil
}

func (c *Container) removeExec(execID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.execs, execID)
}

// liveExecs returns the execs that were started and whose exit is not known yet.
func (c *Container) liveExecs() []*Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	var live []*Process
	for _, p := range c.execs {
		if p.State() == Running {
			live = append(live, p)
		}
	}
	return live
}
