package qmp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"dougong.dev/dougong/internal/qmp"
	"dougong.dev/dougong/internal/qmp/qmptest"
)

// dial returns a client past its handshake and its server.
func dial(t *testing.T) (*qmp.Client, *qmptest.Server) {
	t.Helper()
	server, conn := qmptest.New(t)
	c := qmp.New(conn)
	t.Cleanup(func() { c.Close() })
	if _, err := c.Handshake(deadline(t)); err != nil {
		t.Fatal(err)
	}
	return c, server
}

// deadline bounds what a broken client would wait for.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestHandshake(t *testing.T) {
	server, conn := qmptest.New(t)
	c := qmp.New(conn)
	defer c.Close()
	g, err := c.Handshake(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if v := g.Version.QEMU; v.Major != 7 || v.Minor != 2 || v.Micro != 22 {
		t.Errorf("version = %+v", v)
	}
	if diff := cmp.Diff([]string{"qmp_capabilities"}, server.Calls()); diff != "" {
		t.Error(diff)
	}
}

func TestHandshakeEndsWithTheConnection(t *testing.T) {
	server, conn := qmptest.NewSilent(t)
	c := qmp.New(conn)
	defer c.Close()
	server.Close()
	if _, err := c.Handshake(deadline(t)); !errors.Is(err, io.EOF) {
		t.Errorf("Handshake = %v, want io.EOF", err)
	}
}

func TestHandshakeEndsWithItsContext(t *testing.T) {
	_, conn := qmptest.NewSilent(t)
	c := qmp.New(conn)
	defer c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Handshake(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Handshake = %v, want Canceled", err)
	}
}

func TestExecute(t *testing.T) {
	c, server := dial(t)
	server.Handle("query-status", func(call qmptest.Call) (any, error) {
		if string(call.Args) != `{"verbose":true}` {
			return nil, fmt.Errorf("args = %s", call.Args)
		}
		return map[string]any{"status": "running"}, nil
	})
	var out struct{ Status string }
	if err := c.Execute(deadline(t), "query-status", map[string]any{"verbose": true}, &out); err != nil {
		t.Fatal(err)
	}
	if out.Status != "running" {
		t.Errorf("status = %q", out.Status)
	}
}

func TestExecuteOmitsMissingArguments(t *testing.T) {
	c, server := dial(t)
	server.Handle("stop", func(call qmptest.Call) (any, error) {
		if call.Args != nil {
			return nil, fmt.Errorf("args = %s", call.Args)
		}
		return struct{}{}, nil
	})
	if err := c.Execute(deadline(t), "stop", nil, nil); err != nil {
		t.Fatal(err)
	}
}

func TestExecuteLongReply(t *testing.T) {
	c, server := dial(t)
	want := strings.Repeat("schema ", 64<<10)
	server.Handle("query-qmp-schema", func(qmptest.Call) (any, error) { return want, nil })
	var got string
	if err := c.Execute(deadline(t), "query-qmp-schema", nil, &got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		class string
		is    error
		text  string
	}{
		{"GenericError", nil, "qmp device_del: no such thing"},
		{"DeviceNotFound", errdefs.ErrNotFound, "qmp device_del: no such thing (DeviceNotFound)"},
		{"CommandNotFound", errdefs.ErrNotImplemented, "qmp device_del: no such thing (CommandNotFound)"},
		{"DeviceNotActive", errdefs.ErrFailedPrecondition, "qmp device_del: no such thing (DeviceNotActive)"},
	} {
		t.Run(tc.class, func(t *testing.T) {
			c, server := dial(t)
			server.Handle("device_del", func(qmptest.Call) (any, error) {
				return nil, &qmp.Error{Class: tc.class, Desc: "no such thing"}
			})
			err := c.Execute(deadline(t), "device_del", nil, nil)
			var q *qmp.Error
			if !errors.As(err, &q) || q.Class != tc.class || q.Desc != "no such thing" {
				t.Fatalf("err = %#v", err)
			}
			if err.Error() != tc.text {
				t.Errorf("text = %q, want %q", err, tc.text)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v is not %v", err, tc.is)
			}
		})
	}
}

func TestExecuteBadResult(t *testing.T) {
	c, server := dial(t)
	server.Handle("query-status", func(qmptest.Call) (any, error) { return "text", nil })
	var out struct{ Status string }
	if err := c.Execute(deadline(t), "query-status", nil, &out); err == nil || !strings.Contains(err.Error(), "decode the reply") {
		t.Errorf("err = %v", err)
	}
	// The connection is still good.
	if err := c.Execute(deadline(t), "qmp_capabilities", nil, nil); err != nil {
		t.Error(err)
	}
}

// Replies in the wrong order must reach the commands that they belong to.
func TestRepliesAreMatchedByID(t *testing.T) {
	server, client := net.Pipe()
	defer server.Close()
	c := qmp.New(client)
	defer c.Close()
	got := make(chan error, 2)
	for _, name := range []string{"a", "b"} {
		go func() {
			var out string
			err := c.Execute(deadline(t), name, nil, &out)
			if err == nil && out != name {
				err = fmt.Errorf("%s got the reply of %s", name, out)
			}
			got <- err
		}()
	}
	type command struct {
		Execute string
		ID      int
	}
	var commands [2]command
	dec := json.NewDecoder(server)
	for i := range commands {
		if err := dec.Decode(&commands[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, cmd := range []command{commands[1], commands[0]} {
		fmt.Fprintf(server, `{"return":%q,"id":%d}`, cmd.Execute, cmd.ID)
	}
	for range commands {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
}

func TestLateReplyReachesNobody(t *testing.T) {
	c, server := dial(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	server.Handle("slow", func(qmptest.Call) (any, error) { close(entered); <-leave; return "slow", nil })
	server.Handle("fast", func(qmptest.Call) (any, error) { return "fast", nil })
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error, 1)
	go func() { gone <- c.Execute(ctx, "slow", nil, nil) }()
	<-entered
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("slow = %v", err)
	}
	close(leave)
	var out string
	if err := c.Execute(deadline(t), "fast", nil, &out); err != nil || out != "fast" {
		t.Errorf("fast = %q, %v", out, err)
	}
}

func TestConcurrentCommands(t *testing.T) {
	c, server := dial(t)
	server.Handle("echo", func(call qmptest.Call) (any, error) { return call.Args, nil })
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			var out map[string]int
			if err := c.Execute(deadline(t), "echo", map[string]int{"n": i}, &out); err != nil || out["n"] != i {
				t.Errorf("echo %d = %v, %v", i, out, err)
			}
		})
	}
	wg.Wait()
}

func TestExecuteFD(t *testing.T) {
	c, server := dial(t)
	contents := make(chan string, 1)
	server.Handle("getfd", func(call qmptest.Call) (any, error) {
		if call.File == nil {
			return nil, errors.New("no file")
		}
		defer call.File.Close()
		b, err := io.ReadAll(io.NewSectionReader(call.File, 0, 100))
		contents <- string(b)
		return struct{}{}, err
	})
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprint(f, "passed on")
	if err := c.ExecuteFD(deadline(t), "getfd", map[string]string{"fdname": "x"}, nil, f); err != nil {
		t.Fatal(err)
	}
	if got := <-contents; got != "passed on" {
		t.Errorf("contents = %q", got)
	}
}

func TestExecuteFDNeedsAFileAndAUnixSocket(t *testing.T) {
	c, _ := dial(t)
	if err := c.ExecuteFD(deadline(t), "getfd", nil, nil, nil); err == nil {
		t.Error("no error without a file")
	}
	a, b := net.Pipe()
	defer b.Close()
	p := qmp.New(a)
	defer p.Close()
	if err := p.ExecuteFD(deadline(t), "getfd", nil, nil, os.Stdin); err == nil {
		t.Error("no error over a pipe")
	}
}

func TestEndWakesEveryWaiter(t *testing.T) {
	c, server := dial(t)
	server.Handle("hang", func(qmptest.Call) (any, error) { server.Close(); return nil, nil })
	if err := c.Execute(deadline(t), "hang", nil, nil); !errors.Is(err, io.EOF) {
		t.Errorf("hang = %v, want io.EOF", err)
	}
	<-c.Done()
	if err := c.Execute(deadline(t), "more", nil, nil); !errors.Is(err, io.EOF) {
		t.Errorf("more = %v, want io.EOF", err)
	}
	if !errors.Is(c.Err(), io.EOF) {
		t.Errorf("Err = %v", c.Err())
	}
}

func TestCloseWakesEveryWaiter(t *testing.T) {
	c, server := dial(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	defer close(leave)
	server.Handle("hang", func(qmptest.Call) (any, error) { close(entered); <-leave; return nil, nil })
	got := make(chan error, 1)
	go func() { got <- c.Execute(deadline(t), "hang", nil, nil) }()
	<-entered
	c.Close()
	c.Close()
	if err := <-got; !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("hang = %v, want ErrClosed", err)
	}
}

// A QEMU that no longer reads must not hold a command past its context.
func TestExecuteStuckInWriteEndsWithItsContext(t *testing.T) {
	server, client := net.Pipe()
	defer server.Close()
	c := qmp.New(client)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := c.Execute(ctx, "stop", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want DeadlineExceeded", err)
	}
	<-c.Done() // a command that was cut short garbles all that follow
}

func TestEvents(t *testing.T) {
	server, conn := qmptest.New(t)
	c := qmp.New(conn)
	defer c.Close()
	events := c.Events(deadline(t))
	if _, err := c.Handshake(deadline(t)); err != nil {
		t.Fatal(err)
	}
	server.Event("SHUTDOWN", `{"guest":true,"reason":"guest-shutdown"}`)
	server.Close()
	var got []qmp.Event
	for e := range events { // ends because the connection does
		got = append(got, e)
	}
	want := []qmp.Event{{
		Name: "SHUTDOWN",
		Data: json.RawMessage(`{"guest":true,"reason":"guest-shutdown"}`),
		Time: time.Unix(1700000000, 250000000),
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, ok := <-c.Events(deadline(t)); ok {
		t.Error("an event after the end")
	}
}

func TestEventsEndWithTheirContext(t *testing.T) {
	c, _ := dial(t)
	ctx, cancel := context.WithCancel(context.Background())
	events := c.Events(ctx)
	cancel()
	for range events {
		t.Error("unexpected event")
	}
}

// A subscriber that never receives must hold up neither commands nor others.
func TestSlowSubscriberBlocksNobody(t *testing.T) {
	c, server := dial(t)
	slow, quick := c.Events(t.Context()), c.Events(t.Context())
	_ = slow
	const n = 5000
	server.Handle("flood", func(qmptest.Call) (any, error) {
		for i := range n {
			server.Event("TICK", fmt.Sprintf(`{"n":%d}`, i))
		}
		return struct{}{}, nil
	})
	if err := c.Execute(deadline(t), "flood", nil, nil); err != nil {
		t.Fatal(err)
	}
	last := fmt.Sprintf(`{"n":%d}`, n-1)
	for e := range quick {
		if string(e.Data) == last {
			return
		}
	}
	t.Error("the newest event was lost")
}

func TestGarbageEndsTheConnection(t *testing.T) {
	for name, text := range map[string]string{
		"not json":      "hello\n",
		"unknown":       "{}\n",
		"no id":         `{"return":{}}`,
		"no id error":   `{"error":{"class":"GenericError","desc":"JSON parse error"}}`,
		"foreign id":    `{"return":{},"id":"x"}`,
		"wrong type":    `{"event":7}`,
		"deep nesting":  `{"event":"E","data":` + strings.Repeat("[", 20000),
		"array message": `[1,2]`,
	} {
		t.Run(name, func(t *testing.T) {
			c, server := dial(t)
			server.Raw(text)
			<-c.Done()
			if err := c.Execute(deadline(t), "stop", nil, nil); err == nil || errors.Is(err, qmp.ErrClosed) {
				t.Errorf("err = %v, want the protocol error", err)
			}
		})
	}
}
