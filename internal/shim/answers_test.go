package shim

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// served is a server whose one method waits until it is released, and its
// client.
func served(t *testing.T, owed *answers) (server *ttrpc.Server, client *ttrpc.Client, release chan struct{}) {
	t.Helper()
	server, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(owed))
	if err != nil {
		t.Fatal(err)
	}
	release = make(chan struct{})
	server.RegisterService("test", &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"Wait": func(context.Context, func(any) error) (any, error) {
			<-release
			return empty, nil
		},
	}})
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(t.Context(), listener) }()
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client = ttrpc.NewClient(conn)
	t.Cleanup(func() { _ = client.Close() })
	return server, client, release
}

func owes(t *testing.T, a *answers, want int) {
	t.Helper()
	for begin := time.Now(); a.add(0) != want; <-time.After(time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("%d answers are owed, want %d", a.add(0), want)
		}
	}
}

// TestFlushWaitsForAnswers: who has asked gets an answer, though it is the first
// one on its connection and the server ends meanwhile.
func TestFlushWaitsForAnswers(t *testing.T) {
	owed := &answers{}
	server, client, release := served(t, owed)
	answered := make(chan error, 2)
	for range 2 {
		go func() { answered <- client.Call(t.Context(), "test", "Wait", empty, &emptypb.Empty{}) }()
	}
	owes(t, owed, 2)
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		flush(t.Context(), server, owed)
	}()
	select {
	case <-flushed:
		t.Error("the server ended before it had answered")
	case <-time.After(20 * flushLook):
	}
	close(release)
	for range 2 {
		if err := <-answered; err != nil {
			t.Errorf("the call ended with %v", err)
		}
	}
	<-flushed
	owes(t, owed, 0)
}

// TestAnswersOfOneWhoLeaves are not waited for.
func TestAnswersOfOneWhoLeaves(t *testing.T) {
	owed := &answers{}
	server, client, release := served(t, owed)
	defer close(release)
	go func() { _ = client.Call(t.Context(), "test", "Wait", empty, &emptypb.Empty{}) }()
	owes(t, owed, 1)
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	owes(t, owed, 0)
	flush(t.Context(), server, owed)
}

// frame is one of so many bytes behind its header.
func frame(kind byte, size int) []byte {
	header := []byte{0, 0, byte(size >> 8), byte(size), 0, 0, 0, 1, kind, 0}
	return append(header, make([]byte, size)...)
}

func TestFrames(t *testing.T) {
	all := bytes.Join([][]byte{frame(frameRequest, 0), frame(frameResponse, 3), frame(frameRequest, 700), frame(3, 1), frame(frameRequest, 1)}, nil)
	for _, step := range []int{1, 7, 10, 11, 711, len(all)} {
		var f frames
		n := 0
		for rest := all; len(rest) > 0; {
			some := rest[:min(step, len(rest))]
			n, rest = n+f.count(some, frameRequest), rest[len(some):]
		}
		if n != 3 {
			t.Errorf("%d requests in steps of %d, want 3", n, step)
		}
	}
	var f frames
	if n := f.count(all[:len(all)-1], frameRequest); n != 2 {
		t.Errorf("%d requests before the last byte, want 2", n)
	}
}

// FuzzFrames: what is counted does not depend on how it is cut.
func FuzzFrames(f *testing.F) {
	f.Add(frame(frameRequest, 5), 3)
	f.Add(frame(frameResponse, 0), 10)
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		if at < 0 || at > len(data) {
			at = 0
		}
		var whole, cut frames
		want := whole.count(data, frameRequest)
		if got := cut.count(data[:at], frameRequest) + cut.count(data[at:], frameRequest); got != want {
			t.Errorf("%d frames, cut at %d %d", want, at, got)
		}
	})
}
