package shim

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// slowTask answers Shutdown when it is told to.
type slowTask struct {
	task.TTRPCTaskService
	asked, answer chan struct{}
}

func (s *slowTask) Shutdown(context.Context, *task.ShutdownRequest) (*emptypb.Empty, error) {
	close(s.asked)
	<-s.answer
	return &emptypb.Empty{}, nil
}

// TestFlush has an answer under way when the server is to end.
func TestFlush(t *testing.T) {
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	svc := &slowTask{asked: make(chan struct{}), answer: make(chan struct{})}
	task.RegisterTTRPCTaskService(server, svc)
	path := filepath.Join(t.TempDir(), "sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(t.Context(), listener) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	answered := make(chan error, 1)
	go func() {
		_, err := task.NewTTRPCTaskClient(client).Shutdown(t.Context(), &task.ShutdownRequest{})
		answered <- err
	}()
	<-svc.asked
	flushed := make(chan struct{})
	go func() {
		flush(t.Context(), server)
		close(flushed)
	}()
	select {
	case <-flushed:
		t.Error("it did not wait for the answer")
	default:
	}
	close(svc.answer)
	if err := <-answered; err != nil {
		t.Errorf("the answer was lost: %v", err)
	}
	<-flushed
}

// TestFlushEnds when its context does, answer or not.
func TestFlushEnds(t *testing.T) {
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	flush(ctx, server)
}
