// Package hook runs the OCI hooks that belong to the host.
//
// It owns how a hook is started, told about the container, and timed out. When
// hooks run, and what their failure means, is the caller's matter.
package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	// maxTime bounds a hook that names no time-out.
	maxTime = 2 * time.Minute
	// outputTime is how long the output of an ended hook is waited for: its
	// children may have kept it.
	outputTime = time.Second
	// maxOutput bounds the output of a hook in an error.
	maxOutput = 4096
)

// State describes a container to its hooks. Pid is a process of the host.
func State(id, bundle string, pid int, status specs.ContainerState, spec *specs.Spec) specs.State {
	return specs.State{
		Version: specs.Version, ID: id, Status: status, Pid: pid, Bundle: bundle, Annotations: spec.Annotations,
	}
}

// Kinds of hooks that run on the host.
const (
	Prestart        = "prestart"
	CreateRuntime   = "createRuntime"
	CreateContainer = "createContainer"
	Poststart       = "poststart"
	Poststop        = "poststop"
)

// Of returns the hooks of a kind.
func Of(hooks *specs.Hooks, kind string) []specs.Hook {
	switch kind {
	case Prestart:
		//nolint:staticcheck // Prestart is deprecated, but containerd and Docker still send it.
		return hooks.Prestart
	case CreateRuntime:
		return hooks.CreateRuntime
	case CreateContainer:
		return hooks.CreateContainer
	case Poststart:
		return hooks.Poststart
	case Poststop:
		return hooks.Poststop
	}
	return nil
}

// Run runs hooks one after the other, each with the state on its standard
// input. It stops at the first that fails.
func Run(ctx context.Context, kind string, hooks []specs.Hook, state specs.State) error {
	if len(hooks) == 0 {
		return nil
	}
	input, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode state of container %s: %w", state.ID, err)
	}
	for _, h := range hooks {
		if err := run(ctx, h, state.Bundle, input); err != nil {
			return fmt.Errorf("%s hook %s of container %s: %w", kind, h.Path, state.ID, err)
		}
	}
	return nil
}

func run(ctx context.Context, h specs.Hook, bundle string, input []byte) error {
	limit := maxTime
	if h.Timeout != nil {
		limit = time.Duration(*h.Timeout) * time.Second
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it did not end within %v", limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	// A hook has the environment that the spec gives it and no other.
	cmd.Env = append([]string{}, h.Env...)
	cmd.Dir = bundle
	cmd.Stdin = bytes.NewReader(input)
	var output tail
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = outputTime
	err := cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	if said := strings.TrimSpace(string(output)); said != "" {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// tail keeps the end of what is written.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	*t = (*t)[max(0, len(*t)-maxOutput):]
	return len(p), nil
}
