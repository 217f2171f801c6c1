package shim

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"dougong.dev/dougong/internal/sandbox"
	"dougong.dev/dougong/internal/standin"
)

const (
	// shownTime is how long processes of a guest are shown on the host after
	// somebody asked for them. Clients then run ps.
	shownTime = 10 * time.Second
	// maxShown bounds how many are shown.
	maxShown = 256
)

// show gives the processes that are reported stand-ins on the host, for
// clients that ask ps about them. Those of the last time go. One whose id is
// taken on the host is not shown.
func (s *Service) show(c *sandbox.Container, l *life, processes []*tasktypes.ProcessInfo) {
	l.showing.Lock()
	defer l.showing.Unlock()
	for _, old := range l.shown {
		old.Kill()
	}
	l.shown = nil
	root, err := standInRoot(c.Bundle, "")
	if err != nil {
		slog.Warn("show processes", "container", c.ID, "error", err)
		return
	}
	for _, p := range processes[:min(len(processes), maxShown)] {
		if p.Pid == uint32(l.standIn.PID()) {
			continue
		}
		process := described(p.Info)
		one, err := standin.Spec{
			PID: int(p.Pid), Args: process.Args, Root: root, UID: process.User.UID, GID: process.User.GID, Life: shownTime,
		}.Start()
		if err != nil {
			slog.Debug("show process", "container", c.ID, "pid", p.Pid, "error", err)
			continue
		}
		l.shown = append(l.shown, one)
	}
}

// hide ends what show has started.
func (l *life) hide() {
	l.showing.Lock()
	defer l.showing.Unlock()
	for _, p := range l.shown {
		p.Kill()
	}
	l.shown = nil
}

// described is what the guest says of a process.
func described(info *anypb.Any) specs.Process {
	var p specs.Process
	if err := json.Unmarshal(info.GetValue(), &p); err != nil {
		slog.Debug("read description of a process", "error", err)
	}
	return p
}

// report turns the guest's answer into what callers expect: the first process
// has the id that the task was given, execs are named as runc's shim does, and
// others are described by their command lines.
func report(c *sandbox.Container, r *task.PidsResponse, initPID uint32) error {
	execs := c.ExecPIDs()
	for _, p := range r.Processes {
		if p.Pid == c.Init().PID() && initPID != 0 {
			p.Pid = initPID
		}
		id, ok := execs[p.Pid]
		if !ok {
			continue
		}
		value, err := proto.Marshal(&options.ProcessDetails{ExecID: id})
		if err != nil {
			return fmt.Errorf("describe exec %s: %w", id, err)
		}
		p.Info = &anypb.Any{TypeUrl: "containerd.runc.v1.ProcessDetails", Value: value}
	}
	return nil
}
