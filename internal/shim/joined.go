package shim

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/sandbox"
)

// A container that has joined another one's sandbox has a directory of its own
// beside that one's, where what becomes of it is noted. It comes and goes while
// the sandbox runs, and ends with it.

// dirOf is the directory of a container that has joined ours.
func (s *Standalone) dirOf(id string) (record.Dir, error) {
	return record.At(filepath.Dir(s.Dir.Path())).Get(id)
}

func (s *Standalone) markStarted(id string) {
	dir, err := s.dirOf(id)
	if err == nil {
		err = dir.MarkStarted(time.Now())
	}
	if err != nil {
		slog.Warn("note the start", "container", id, "error", err)
	}
}

// follow waits for the end of a container that has joined ours. What it was made
// of is given back before anybody is told: callers take it away then.
func (s *Standalone) follow(c *sandbox.Container) {
	init := c.Init()
	<-init.Exited()
	if err := init.Delete(context.Background()); err != nil {
		slog.Warn("remove a container", "container", c.ID, "error", err)
	}
	status, at, cause := init.Exit()
	exit := record.Exit{Status: int(status), Time: at}
	if cause != nil {
		exit.Error = cause.Error()
	}
	dir, err := s.dirOf(c.ID)
	if err == nil {
		err = dir.WriteExit(exit)
	}
	if err != nil {
		slog.Error("note the exit", "container", c.ID, "error", err)
	}
	s.service.forget(c.ID, "")
	s.service.tellInit(c.ID, status)
}

// endJoined kills a container that has joined another one. That it has gone is
// seen by its lock.
func (s *Service) endJoined(ctx context.Context, id string) error {
	_, err := s.Kill(ctx, &task.KillRequest{ID: id, Signal: uint32(unix.SIGKILL), All: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
