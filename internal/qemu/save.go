package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"dougong.dev/dougong/internal/qmp"
)

// Save stops the guest and writes the machine's device state to state. Its
// memory must be a shared Memory of the spec: it is not in the state. The
// machine stays stopped and is good for nothing but Quit or Kill.
func (m *Machine) Save(ctx context.Context, state *os.File) error {
	if err := m.qmp.Execute(ctx, "stop", nil, nil); err != nil {
		return fmt.Errorf("save machine: %w", err)
	}
	if err := m.migrate(ctx, "migrate", state); err != nil {
		return fmt.Errorf("save machine: %w", err)
	}
	return nil
}

// Resume has a machine that was started for it go on from a saved state. One
// that cannot be used ends the machine.
func (m *Machine) Resume(ctx context.Context, state *os.File) error {
	if err := m.migrate(ctx, "migrate-incoming", state); err != nil {
		return fmt.Errorf("load saved machine: %w", err)
	}
	// What was saved was stopped, and so is what was loaded.
	if err := m.qmp.Execute(ctx, "cont", nil, nil); err != nil {
		return fmt.Errorf("resume machine: %w", err)
	}
	return nil
}

// Arguments of the commands below. Memory is kept out of the state: it is in
// the memory backend. Events say how it goes, so that nobody has to ask.
var (
	capabilities = map[string]any{"capabilities": []map[string]any{
		{"capability": "x-ignore-shared", "state": true},
		{"capability": "events", "state": true},
	}}
	stateFD  = map[string]any{"fdname": "state"}
	stateURI = map[string]any{"uri": "fd:state"}
)

// migrate moves the device state to or from a file and waits until that is
// done.
func (m *Machine) migrate(ctx context.Context, command string, state *os.File) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := m.qmp.Events(ctx)
	if err := m.qmp.Execute(ctx, "migrate-set-capabilities", capabilities, nil); err != nil {
		return err
	}
	if err := m.qmp.ExecuteFD(ctx, "getfd", stateFD, nil, state); err != nil {
		return err
	}
	if err := m.qmp.Execute(ctx, command, stateURI, nil); err != nil {
		return err
	}
	return m.awaitMigrated(ctx, events)
}

// errStateFailed says that QEMU gave up; why stands in its own words.
var errStateFailed = errors.New("QEMU could not move the device state")

func (m *Machine) awaitMigrated(ctx context.Context, events <-chan qmp.Event) error {
	for e := range events {
		if e.Name != "MIGRATION" {
			continue
		}
		var data struct{ Status string }
		if err := json.Unmarshal(e.Data, &data); err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		switch data.Status {
		case "completed":
			return nil
		case "failed":
			return errStateFailed
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errStateFailed
}
