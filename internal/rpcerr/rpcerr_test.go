package rpcerr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// failing answers Kill with its error; nothing else is called.
type failing struct {
	task.TTRPCTaskService
	err error
}

func (f failing) Kill(context.Context, *task.KillRequest) (*emptypb.Empty, error) {
	if f.err != nil {
		return nil, Server(f.err)
	}
	return &emptypb.Empty{}, nil
}

func dial(t *testing.T, svc task.TTRPCTaskService) task.TTRPCTaskService {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	task.RegisterTTRPCTaskService(server, svc)
	go func() { _ = server.Serve(context.Background(), listener) }()
	t.Cleanup(func() { _ = server.Close() })
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn, ttrpc.WithUnaryClientInterceptor(Client))
	t.Cleanup(func() { _ = client.Close() })
	return task.NewTTRPCTaskClient(client)
}

func TestClassComesBack(t *testing.T) {
	for _, class := range []error{errdefs.ErrNotFound, errdefs.ErrPermissionDenied, errdefs.ErrFailedPrecondition, errdefs.ErrAlreadyExists} {
		sent := fmt.Errorf("exec %q: no such thing: %w", "foo", class)
		_, err := dial(t, failing{err: sent}).Kill(t.Context(), &task.KillRequest{})
		if !errors.Is(err, class) {
			t.Errorf("class of %v is lost: %v", sent, err)
		}
		if err.Error() != sent.Error() {
			t.Errorf("text = %q, want %q", err, sent)
		}
	}
}

// hollow may wrap an error, and does not.
type hollow struct{}

func (hollow) Error() string { return "hollow" }
func (hollow) Unwrap() error { return nil }

func TestOddErrors(t *testing.T) {
	for _, sent := range []error{
		errors.New("without a class"),
		hollow{},
		fmt.Errorf("a; then: %w; %w", errors.New("first"), hollow{}),
		errors.Join(fmt.Errorf("one: %w", errdefs.ErrNotFound), hollow{}),
	} {
		_, err := dial(t, failing{err: sent}).Kill(t.Context(), &task.KillRequest{})
		if err == nil || err.Error() != sent.Error() {
			t.Errorf("text = %q, want %q", err, sent)
		}
		if errdefs.IsNotFound(err) != errdefs.IsNotFound(sent) {
			t.Errorf("class of %v is lost: %v", sent, err)
		}
	}
}

func TestNoError(t *testing.T) {
	if _, err := dial(t, failing{}).Kill(t.Context(), &task.KillRequest{}); err != nil {
		t.Error(err)
	}
}

func TestPeerGone(t *testing.T) {
	client, server := net.Pipe()
	c := ttrpc.NewClient(client, ttrpc.WithUnaryClientInterceptor(Client))
	t.Cleanup(func() { _ = c.Close() })
	_ = server.Close()
	if _, err := task.NewTTRPCTaskClient(c).Kill(t.Context(), &task.KillRequest{}); !errdefs.IsUnavailable(err) {
		t.Errorf("error = %v, want unavailable", err)
	}
}
