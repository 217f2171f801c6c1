package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"

	"dougong.dev/dougong/internal/record"
)

// Status is what is known about a container right now.
type Status struct {
	Dir    record.Dir
	Record *record.Record
	// State is created, running, paused or exited.
	State string
	// PID is that of the sandbox process, TaskPID the one that callers know
	// the container by; 0 when the sandbox process does not answer.
	PID, TaskPID int

	Started time.Time
	// Exit is set when State is exited.
	Exit *record.Exit
}

// statusTimeout bounds how long a sandbox process that does not answer holds
// up a list.
const statusTimeout = 3 * time.Second

// Status looks a sandbox up, on disk and by asking its process.
func (e *Engine) Status(ctx context.Context, dir record.Dir) (*Status, error) {
	rec, err := dir.Record()
	if err != nil {
		return nil, err
	}
	s := &Status{Dir: dir, Record: rec, State: "created"}
	s.Started, _ = dir.Started()
	if exit, err := dir.Exit(); err == nil {
		s.State, s.Exit = "exited", exit
		return s, nil
	}
	s.ask(ctx)
	return s, nil
}

// ask takes the state from the sandbox process. One that does not answer is
// being started, or is about to end.
func (s *Status) ask(ctx context.Context) {
	client, err := Dial(s.Dir)
	if err != nil {
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	resp, err := client.Task.State(ctx, &task.StateRequest{ID: s.Dir.ID})
	if err != nil {
		return
	}
	s.TaskPID = int(resp.Pid)
	switch resp.Status {
	case tasktypes.Status_RUNNING:
		s.State = "running"
	case tasktypes.Status_PAUSED:
		s.State = "paused"
	case tasktypes.Status_STOPPED:
		s.State = "exited"
		s.Exit = &record.Exit{Status: int(resp.ExitStatus), Time: resp.ExitedAt.AsTime()}
		if exit := awaitExit(ctx, s.Dir, client.gone); exit != nil {
			s.Exit = exit
		}
	}
	if connected, err := client.Task.Connect(ctx, &task.ConnectRequest{ID: s.Dir.ID}); err == nil {
		s.PID = int(connected.ShimPid)
	}
}

// recordLook is how long there is between two looks for a record.
const recordLook = 10 * time.Millisecond

// awaitExit waits for what the sandbox process puts on record of an exit when
// it has cleaned up behind it: only that says why a container ended. It returns
// nil when nothing comes.
func awaitExit(ctx context.Context, dir record.Dir, gone <-chan struct{}) *record.Exit {
	tick := time.NewTicker(recordLook)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-gone:
			exit, _ := dir.Exit()
			return exit
		case <-ctx.Done():
			return nil
		}
		if exit, err := dir.Exit(); err == nil {
			return exit
		}
	}
}

func readJSON(dir, name string, v any) error {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return fmt.Errorf("read bundle: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read bundle: %s: %w", name, err)
	}
	return nil
}
