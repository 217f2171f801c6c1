package engine

import (
	"context"
	"sync"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"google.golang.org/protobuf/types/known/emptypb"
)

// fakeTask is a sandbox whose answers a test decides on.
type fakeTask struct {
	task.TTRPCTaskService
	closed  chan *task.CloseIORequest
	killed  chan *task.KillRequest
	resized chan *task.ResizePtyRequest
	exited  chan uint32
	// execErr and startErr are the answers of Exec and Start.
	execErr, startErr error

	mu       sync.Mutex
	calls    []string
	onCreate func(*task.ExecProcessRequest)
}

func newFakeTask() *fakeTask {
	return &fakeTask{
		closed: make(chan *task.CloseIORequest, 8), killed: make(chan *task.KillRequest, 8),
		resized: make(chan *task.ResizePtyRequest, 8), exited: make(chan uint32, 1),
	}
}

func (f *fakeTask) note(call string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
}

func (f *fakeTask) CloseIO(_ context.Context, r *task.CloseIORequest) (*emptypb.Empty, error) {
	f.closed <- r
	return nil, nil
}

func (f *fakeTask) Kill(_ context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	f.killed <- r
	return nil, nil
}

func (f *fakeTask) ResizePty(_ context.Context, r *task.ResizePtyRequest) (*emptypb.Empty, error) {
	f.resized <- r
	return nil, nil
}

func (f *fakeTask) Exec(_ context.Context, r *task.ExecProcessRequest) (*emptypb.Empty, error) {
	f.note("exec " + r.ExecID)
	if f.execErr == nil && f.onCreate != nil {
		f.onCreate(r)
	}
	return nil, f.execErr
}

func (f *fakeTask) Start(_ context.Context, r *task.StartRequest) (*task.StartResponse, error) {
	f.note("start " + r.ExecID)
	return &task.StartResponse{}, f.startErr
}

func (f *fakeTask) Delete(_ context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	f.note("delete " + r.ExecID)
	return &task.DeleteResponse{}, nil
}

func (f *fakeTask) Wait(ctx context.Context, r *task.WaitRequest) (*task.WaitResponse, error) {
	f.note("wait " + r.ExecID)
	select {
	case status := <-f.exited:
		return &task.WaitResponse{ExitStatus: status}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
