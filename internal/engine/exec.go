package engine

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"dougong.dev/dougong/internal/record"
)

// processType is the name under which containerd sends an OCI process.
const processType = "types.containerd.io/opencontainers/runtime-spec/1/Process"

// Exec makes a process in a running container; it waits for StartExec.
func (c *Client) Exec(ctx context.Context, id, execID string, spec *specs.Process, stdio StdioURIs) error {
	value, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode process: %w", err)
	}
	_, err = c.Task.Exec(ctx, &task.ExecProcessRequest{
		ID: id, ExecID: execID, Terminal: spec.Terminal,
		Spec:  &anypb.Any{TypeUrl: processType, Value: value},
		Stdin: stdio.Stdin, Stdout: stdio.Stdout, Stderr: stdio.Stderr,
	})
	return err
}

// StartExec runs a process made by Exec.
func (c *Client) StartExec(ctx context.Context, id, execID string) error {
	_, err := c.Task.Start(ctx, &task.StartRequest{ID: id, ExecID: execID})
	return err
}

// DeleteExec removes an ended process.
func (c *Client) DeleteExec(ctx context.Context, id, execID string) error {
	_, err := c.Task.Delete(ctx, &task.DeleteRequest{ID: id, ExecID: execID})
	return err
}

// Wait returns the exit status of a process once it has ended.
func (c *Client) Wait(ctx context.Context, id, execID string) (int, error) {
	resp, err := c.Task.Wait(ctx, &task.WaitRequest{ID: id, ExecID: execID})
	if err != nil {
		return 0, err
	}
	return int(resp.ExitStatus), nil
}

// Spec reads the OCI spec that the sandbox of dir was started with.
func Spec(dir record.Dir) (*specs.Spec, error) {
	spec := new(specs.Spec)
	return spec, readJSON(dir.Bundle(), "config.json", spec)
}
