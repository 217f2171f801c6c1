package sandbox

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"dougong.dev/dougong/internal/cgroup"
)

// standing serves the Task calls about the container that stands for a pod. It
// has no process in the guest: it only runs until it is told to end, or the
// sandbox does.
type standing struct {
	// gone is closed when the sandbox is lost.
	gone <-chan struct{}

	once     sync.Once
	ended    chan struct{}
	status   uint32
	exitedAt time.Time
}

func newStanding(gone <-chan struct{}) *standing {
	return &standing{gone: gone, ended: make(chan struct{})}
}

var _ task.TTRPCTaskService = (*standing)(nil)

var nothing = &emptypb.Empty{}

// Create has nothing to make.
func (*standing) Create(context.Context, *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	return &task.CreateTaskResponse{}, nil
}

// Start has nothing to start.
func (*standing) Start(context.Context, *task.StartRequest) (*task.StartResponse, error) {
	return &task.StartResponse{}, nil
}

// Kill ends it by those signals that end a pause container.
func (s *standing) Kill(_ context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	switch sig := unix.Signal(r.Signal); sig {
	case unix.SIGKILL:
		s.end(lostStatus)
	case unix.SIGTERM, unix.SIGINT:
		s.end(0)
	}
	return nothing, nil
}

func (s *standing) end(status uint32) {
	s.once.Do(func() {
		s.status, s.exitedAt = status, time.Now()
		close(s.ended)
	})
}

// Wait returns when it has ended.
func (s *standing) Wait(ctx context.Context, _ *task.WaitRequest) (*task.WaitResponse, error) {
	select {
	case <-s.ended:
		return &task.WaitResponse{ExitStatus: s.status, ExitedAt: timestamppb.New(s.exitedAt)}, nil
	case <-s.gone:
		return nil, errMachineEnded
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Delete has nothing to remove.
func (s *standing) Delete(context.Context, *task.DeleteRequest) (*task.DeleteResponse, error) {
	s.end(0)
	return &task.DeleteResponse{}, nil
}

// Pids are none in the guest.
func (*standing) Pids(context.Context, *task.PidsRequest) (*task.PidsResponse, error) {
	return &task.PidsResponse{}, nil
}

// Stats are those of a container that uses nothing.
func (*standing) Stats(context.Context, *task.StatsRequest) (*task.StatsResponse, error) {
	none, err := metricsOf(cgroup.Usage{})
	if err != nil {
		return nil, err
	}
	return &task.StatsResponse{Stats: none}, nil
}

// Pause has nothing to freeze.
func (*standing) Pause(context.Context, *task.PauseRequest) (*emptypb.Empty, error) {
	return nothing, nil
}

// Resume has nothing to let go on.
func (*standing) Resume(context.Context, *task.ResumeRequest) (*emptypb.Empty, error) {
	return nothing, nil
}

// Update has nothing to limit.
func (*standing) Update(context.Context, *task.UpdateTaskRequest) (*emptypb.Empty, error) {
	return nothing, nil
}

// CloseIO has no standard input.
func (*standing) CloseIO(context.Context, *task.CloseIORequest) (*emptypb.Empty, error) {
	return nothing, nil
}

// ResizePty has no terminal.
func (*standing) ResizePty(context.Context, *task.ResizePtyRequest) (*emptypb.Empty, error) {
	return nil, errNoProcess
}

// Exec has no process to join.
func (*standing) Exec(context.Context, *task.ExecProcessRequest) (*emptypb.Empty, error) {
	return nil, errNoProcess
}

// Checkpoint has nothing to save.
func (*standing) Checkpoint(context.Context, *task.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, errNoProcess
}

// State is never asked for: the sandbox keeps it.
func (*standing) State(context.Context, *task.StateRequest) (*task.StateResponse, error) {
	return nil, errNoProcess
}

// Connect is never asked for.
func (*standing) Connect(context.Context, *task.ConnectRequest) (*task.ConnectResponse, error) {
	return nil, errNoProcess
}

// Shutdown has no end of its own.
func (*standing) Shutdown(context.Context, *task.ShutdownRequest) (*emptypb.Empty, error) {
	return nothing, nil
}

var errNoProcess = fmt.Errorf("the container that stands for a pod has no process in the guest: %w", errdefs.ErrFailedPrecondition)
