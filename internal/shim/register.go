package shim

import (
	"context"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
)

// Register serves svc as Task v2 and v3. The two are the same on the wire but
// for the package's name, so one set of handlers answers both.
func Register(server *ttrpc.Server, svc task.TTRPCTaskService) {
	methods := map[string]ttrpc.Method{
		"State":      method(svc.State),
		"Create":     method(svc.Create),
		"Start":      method(svc.Start),
		"Delete":     method(svc.Delete),
		"Pids":       method(svc.Pids),
		"Pause":      method(svc.Pause),
		"Resume":     method(svc.Resume),
		"Checkpoint": method(svc.Checkpoint),
		"Kill":       method(svc.Kill),
		"Exec":       method(svc.Exec),
		"ResizePty":  method(svc.ResizePty),
		"CloseIO":    method(svc.CloseIO),
		"Update":     method(svc.Update),
		"Wait":       method(svc.Wait),
		"Stats":      method(svc.Stats),
		"Connect":    method(svc.Connect),
		"Shutdown":   method(svc.Shutdown),
	}
	for _, name := range []string{"containerd.task.v2.Task", "containerd.task.v3.Task"} {
		server.RegisterService(name, &ttrpc.ServiceDesc{Methods: methods})
	}
}

// method adapts a typed handler to ttrpc's table.
func method[Request, Response any](handle func(context.Context, *Request) (*Response, error)) ttrpc.Method {
	return func(ctx context.Context, unmarshal func(any) error) (any, error) {
		request := new(Request)
		if err := unmarshal(request); err != nil {
			return nil, err
		}
		response, err := handle(ctx, request)
		if err != nil {
			return nil, err
		}
		return response, nil
	}
}
