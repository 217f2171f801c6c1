package shim

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"dougong.dev/dougong/internal/sandbox"
)

// startClient serves svc on a socket and returns a client of it.
func startClient(t *testing.T, svc task.TTRPCTaskService) *ttrpc.Client {
	t.Helper()
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(intercept))
	if err != nil {
		t.Fatal(err)
	}
	Register(server, svc)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), l) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	t.Cleanup(func() {
		client.Close()
		server.Close()
		<-served
	})
	return client
}

// echo answers Connect with the request's id as its version, and refuses Kill.
type echo struct{ task.TTRPCTaskService }

func (echo) Connect(_ context.Context, r *task.ConnectRequest) (*task.ConnectResponse, error) {
	return &task.ConnectResponse{Version: r.ID}, nil
}

func (echo) Kill(_ context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	return nil, fmt.Errorf("kill %s: %w", r.ID, errdefs.ErrNotFound)
}

var versions = []string{"containerd.task.v2.Task", "containerd.task.v3.Task"}

func TestBothVersionsAreServed(t *testing.T) {
	client := startClient(t, echo{})
	for _, name := range versions {
		var resp task.ConnectResponse
		if err := client.Call(t.Context(), name, "Connect", &task.ConnectRequest{ID: "c1"}, &resp); err != nil || resp.Version != "c1" {
			t.Errorf("%s answers %q, %v", name, resp.Version, err)
		}
		err := client.Call(t.Context(), name, "Kill", &task.KillRequest{ID: "c1"}, new(emptypb.Empty))
		if err = errgrpc.ToNative(err); !errdefs.IsNotFound(err) {
			t.Errorf("%s: the error's class is lost: %v", name, err)
		}
	}
}

// TestEveryMethodIsServed holds the table against containerd's service: a
// method left out would be found by the first caller only.
func TestEveryMethodIsServed(t *testing.T) {
	client := startClient(t, &Service{
		shutdown: func() {},
		build:    func(string) (*sandbox.Sandbox, error) { return nil, errdefs.ErrUnavailable },
	})
	service := reflect.TypeFor[task.TTRPCTaskService]()
	for m := range service.Methods() {
		request := reflect.New(m.Type.In(1).Elem()).Interface()
		for _, version := range versions {
			err := client.Call(t.Context(), version, m.Name, request, reflect.New(m.Type.Out(0).Elem()).Interface())
			if errdefs.IsNotImplemented(errgrpc.ToNative(err)) && m.Name != "Checkpoint" {
				t.Errorf("%s/%s is not served: %v", version, m.Name, err)
			}
		}
	}
}

// TestWithoutASandbox asks for what is not there.
func TestWithoutASandbox(t *testing.T) {
	s := &Service{shutdown: func() {}}
	ctx := t.Context()
	calls := map[string]func() error{
		"State":  func() error { _, err := s.State(ctx, &task.StateRequest{ID: "c"}); return err },
		"Start":  func() error { _, err := s.Start(ctx, &task.StartRequest{ID: "c"}); return err },
		"Delete": func() error { _, err := s.Delete(ctx, &task.DeleteRequest{ID: "c"}); return err },
		"Kill":   func() error { _, err := s.Kill(ctx, &task.KillRequest{ID: "c"}); return err },
		"Wait":   func() error { _, err := s.Wait(ctx, &task.WaitRequest{ID: "c"}); return err },
		"Exec":   func() error { _, err := s.Exec(ctx, &task.ExecProcessRequest{ID: "c"}); return err },
		"Pids":   func() error { _, err := s.Pids(ctx, &task.PidsRequest{ID: "c"}); return err },
		"Stats":  func() error { _, err := s.Stats(ctx, &task.StatsRequest{ID: "c"}); return err },
	}
	for name, call := range calls {
		if err := call(); !errdefs.IsNotFound(err) {
			t.Errorf("%s gives %v, want not found", name, err)
		}
	}
	if _, err := s.Checkpoint(ctx, &task.CheckpointTaskRequest{ID: "c"}); !errdefs.IsNotImplemented(err) {
		t.Errorf("Checkpoint gives %v, want not implemented", err)
	}
	if _, err := s.Create(ctx, &task.CreateTaskRequest{ID: "c", Checkpoint: "/x"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("Create from a checkpoint gives %v, want an invalid argument", err)
	}
}
