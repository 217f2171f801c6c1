package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// session is one over a fake sandbox.
func session(t *testing.T, fake *fakeTask) *Session {
	t.Helper()
	return &Session{Client: &Client{Task: fake}, ID: "c1", ExecID: "e1", FIFOs: t.TempDir()}
}

// gated takes no output before its gate is open.
type gated struct {
	gate <-chan struct{}
	// A field: io.Copy would find the ReadFrom of an embedded buffer.
	taken bytes.Buffer
}

func (g *gated) Write(p []byte) (int, error) {
	<-g.gate
	return g.taken.Write(p)
}

// TestExec sees a process through its life: its output is whole before its
// exit status comes back.
func TestExec(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, status := range []uint32{0, 42} {
		fake := newFakeTask()
		fake.onCreate = func(r *task.ExecProcessRequest) {
			var p specs.Process
			if err := json.Unmarshal(r.Spec.GetValue(), &p); err != nil || !slices.Equal(p.Args, []string{"echo"}) || r.Spec.GetTypeUrl() != processType {
				t.Errorf("process is %s %s, %v", r.Spec.GetTypeUrl(), r.Spec.GetValue(), err)
			}
			p2 := open(t, StdioURIs{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr})
			go func() {
				// The exit is known before the last output has come.
				fake.exited <- status
				_, _ = io.WriteString(p2.stdout, strings.Repeat("output\n", 1000))
				p2.stdout.Close()
				p2.stderr.Close()
			}()
		}
		// The reader of the output lags behind the exit; a session that does
		// not wait for it is over before the gate opens.
		gate := make(chan struct{})
		time.AfterFunc(50*time.Millisecond, func() { close(gate) })
		stdout := gated{gate: gate}
		s := session(t, fake)
		s.Stdout, s.Stderr = &stdout, io.Discard
		err := s.Exec(t.Context(), &specs.Process{Args: []string{"echo"}}, false)
		exit, isExit := errors.AsType[*ExitError](err)
		if status == 0 && err != nil || status != 0 && (!isExit || exit.Code != 42 || exit.Err != nil) {
			t.Errorf("status %d comes back as %v", status, err)
		}
		if stdout.taken.Len() != 7000 {
			t.Errorf("%d bytes of output arrived, want 7000", stdout.taken.Len())
		}
		if want := []string{"exec e1", "start e1", "wait e1", "delete e1"}; !slices.Equal(fake.calls, want) {
			t.Errorf("calls are %v, want %v", fake.calls, want)
		}
	}
}

func TestExecDetached(t *testing.T) {
	fake := newFakeTask()
	s := session(t, fake)
	if err := s.Exec(t.Context(), &specs.Process{Args: []string{"sleep"}}, true); err != nil {
		t.Fatal(err)
	}
	if want := []string{"exec e1", "start e1"}; !slices.Equal(fake.calls, want) {
		t.Errorf("calls are %v, want %v: nobody waits", fake.calls, want)
	}
}

func TestExecErrors(t *testing.T) {
	notThere := fmt.Errorf(`exec "nope": executable file not found in $PATH: %w`, errdefs.ErrNotFound)
	tests := map[string]struct {
		exec, start error
		code        int
	}{
		"container is gone":  {fmt.Errorf("container c1: %w", errdefs.ErrNotFound), nil, CodeEngine},
		"container is ended": {fmt.Errorf("container c1: %w", errdefs.ErrFailedPrecondition), nil, CodeEngine},
		"command not there":  {nil, notThere, CodeNotFound},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			fake := newFakeTask()
			fake.execErr, fake.startErr = tt.exec, tt.start
			s := session(t, fake)
			s.Stdout = io.Discard
			err := s.Exec(t.Context(), &specs.Process{Args: []string{"nope"}}, false)
			if exit, ok := errors.AsType[*ExitError](err); !ok || exit.Code != tt.code {
				t.Errorf("error is %v, want code %d", err, tt.code)
			}
			if left, err := os.ReadDir(s.FIFOs); err != nil || len(left) != 0 {
				t.Errorf("%v is left, %v", left, err)
			}
		})
	}
}

func TestBrokenPipeKillsTheProcess(t *testing.T) {
	defer goleak.VerifyNone(t)
	fake := newFakeTask()
	s := session(t, fake)
	s.Stdout = unwritable{}
	uris, err := s.Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := open(t, uris)
	followed := make(chan int, 1)
	go func() {
		status, _ := s.Follow(t.Context())
		followed <- status
	}()
	write(t, p.stdout, "unread")
	if r := await(t, fake.killed, "kill"); r.ID != "c1" || r.ExecID != "e1" || r.Signal != uint32(unix.SIGKILL) {
		t.Errorf("it is killed by %v", r)
	}
	p.stdout.Close()
	fake.exited <- 137
	if status := await(t, followed, "end"); status != 137 {
		t.Errorf("exit status %d", status)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	defer goleak.VerifyNone(t)
	s := session(t, newFakeTask())
	s.Stdout = io.Discard
	if _, err := s.Attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Follow(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestInputIsNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	s := session(t, newFakeTask())
	s.Stdin, s.Interactive, s.Terminal = r, true, true
	if _, err := s.Attach(t.Context()); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "not a terminal") {
		t.Errorf("-it with a pipe gives %v", err)
	}
	s.Close()
}

func TestTerminalHasOneOutput(t *testing.T) {
	s := session(t, newFakeTask())
	s.ExecID, s.Terminal, s.Stdout, s.Stderr = "", true, io.Discard, io.Discard
	uris, err := s.Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if uris.Stderr != "" || uris.Stdin != "" || !strings.HasSuffix(uris.Stdout, "/init/stdout") {
		t.Errorf("URIs are %v", uris)
	}
}

// whenRaw fails the test when it is written to before the terminal is raw.
type whenRaw struct {
	t        *testing.T
	terminal *os.File
	taken    bytes.Buffer
}

func (w *whenRaw) Write(p []byte) (int, error) {
	if mode(w.t, w.terminal).Oflag&unix.OPOST != 0 {
		w.t.Errorf("%q goes to a terminal that is not raw yet", p)
	}
	return w.taken.Write(p)
}

// TestOutputWaitsForTheTerminal has a process speak before its start was
// answered.
func TestOutputWaitsForTheTerminal(t *testing.T) {
	fake := newFakeTask()
	fake.onCreate = func(r *task.ExecProcessRequest) {
		p := open(t, StdioURIs{Stdin: r.Stdin, Stdout: r.Stdout})
		go func() {
			_, _ = io.WriteString(p.stdout, "early\r\n")
			p.stdout.Close()
			fake.exited <- 0
		}()
	}
	_, inner := pty(t)
	s := session(t, fake)
	out := &whenRaw{t: t, terminal: inner}
	s.Interactive, s.Terminal, s.Stdin, s.Stdout = true, true, inner, out
	if err := s.Exec(t.Context(), &specs.Process{Args: []string{"echo"}}, false); err != nil {
		t.Error(err)
	}
	if got := out.taken.String(); got != "early\r\n" {
		t.Errorf("got %q", got)
	}
}

// lostTask is a sandbox that goes away while its process runs.
type lostTask struct {
	*fakeTask
	gone chan struct{}
}

func (l lostTask) Wait(context.Context, *task.WaitRequest) (*task.WaitResponse, error) {
	close(l.gone)
	return nil, errdefs.ErrUnavailable
}

func TestSandboxGoesAway(t *testing.T) {
	fake := lostTask{newFakeTask(), make(chan struct{})}
	s := &Session{Client: &Client{Task: fake, gone: fake.gone}, ID: "0123456789abcdef", ExecID: "e1", FIFOs: t.TempDir()}
	err := s.Exec(t.Context(), &specs.Process{Args: []string{"sleep"}}, false)
	exit, ok := errors.AsType[*ExitError](err)
	if !ok || exit.Code != CodeEngine || !strings.Contains(err.Error(), "0123456789ab went away") {
		t.Errorf("got %v", err)
	}
}
