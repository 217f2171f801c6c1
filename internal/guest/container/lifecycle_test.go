package container

import (
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	api "github.com/containerd/containerd/api/runtime/task/v3"
	types "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
)

func (t *proc) state() types.Status {
	t.Helper()
	r, err := t.client.State(t.context(), &api.StateRequest{ID: t.id, ExecID: t.execID})
	t.check(err)
	return r.Status
}

func (t *proc) want(status types.Status) {
	t.Helper()
	if got := t.state(); got != status {
		t.Errorf("state %v, want %v", got, status)
	}
}

func TestLifecycle(t *testing.T) {
	g := newGuest(t)
	c := g.newTask("life", "", false, true)
	g.check(c.create(g.bundle("life", nil, "sh", "-c", "echo out; echo err >&2; cat; exit 7")))
	c.want(types.Status_CREATED)
	g.check(c.start())
	c.want(types.Status_RUNNING)
	if err := c.delete(); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("delete of a running container: %v", err)
	}
	if err := c.create(filepath.Join(g.dir, "life")); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second create: %v", err)
	}
	_, _ = io.WriteString(c.in, "in\n")
	g.check(c.in.Close())
	if status := c.wait(); status != 7 {
		t.Errorf("exit status %d, want 7", status)
	}
	c.want(types.Status_STOPPED)
	if diff := cmp.Diff([]string{"out\nin\n", "err\n"}, []string{c.out.String(), c.err.String()}); diff != "" {
		t.Error(diff)
	}
	g.check(c.delete())
	if _, err := os.Stat(filepath.Join(cgroupRoot, cgroupParent, "life")); !os.IsNotExist(err) {
		t.Errorf("cgroup after delete: %v", err)
	}
	if err := c.start(); !errdefs.IsNotFound(err) {
		t.Errorf("start after delete: %v", err)
	}
	// The id is free again.
	g.check(os.RemoveAll(filepath.Join(g.dir, "life")))
	if status := g.run("life", false, "true").wait(); status != 0 {
		t.Errorf("second life ends with %d", status)
	}
}

func TestExitStatuses(t *testing.T) {
	g := newGuest(t)
	c := g.run("c", false, "sleep", "100")
	for script, want := range map[string]uint32{
		"exit 0": 0, "exit 255": 255, "kill -9 $$": 137, "kill -15 $$": 143,
	} {
		id := strings.NewReplacer(" ", "", "$", "", "-", "").Replace(script)
		e := c.startExec(id, false, false, "sh", "-c", script)
		if got := e.wait(); got != want {
			t.Errorf("%s: status %d, want %d", script, got, want)
		}
		g.check(e.delete())
	}
	c.kill(unix.SIGKILL, false)
	if got := c.wait(); got != 137 {
		t.Errorf("killed init: status %d, want 137", got)
	}
}

// An early exit is never lost: not before Start has answered, not before
// somebody waits.
func TestEarlyExit(t *testing.T) {
	g := newGuest(t)
	c := g.run("early", false, "sleep", "100")
	for range 20 {
		e := c.startExec("e", false, false, "sh", "-c", "echo x; exit 3")
		if got := e.wait(); got != 3 || e.out.String() != "x\n" {
			t.Fatalf("status %d, output %q", got, e.out.String())
		}
		g.check(e.delete())
	}
}

func TestBothDirections(t *testing.T) {
	g := newGuest(t)
	c := g.run("data", true, "cat")
	sent := make([]byte, 64<<20)
	_, _ = rand.Read(sent)
	go func() {
		_, _ = io.Copy(c.in, bytes.NewReader(sent))
		_ = c.in.Close()
	}()
	if status := c.wait(); status != 0 {
		t.Fatalf("status %d", status)
	}
	if !bytes.Equal(sent, c.out.Bytes()) {
		t.Fatalf("%d bytes came back of %d, or others", c.out.Len(), len(sent))
	}
}

// All output is handed out before Wait returns, however much there is.
func TestDrainBeforeWait(t *testing.T) {
	g := newGuest(t)
	c := g.newTask("drain", "", false, false)
	g.check(c.create(g.bundle("drain", nil, "sh", "-c", "head -c 5000000 /dev/zero; echo end >&2")))
	g.check(c.start())
	if status := c.wait(); status != 0 || c.out.Len() != 5000000 || c.err.String() != "end\n" {
		t.Fatalf("status %d, %d bytes, %q", status, c.out.Len(), c.err.String())
	}
}

// A child that outlives an exec and holds its pipe does not hold up its exit;
// one that outlives an init dies with it.
func TestOrphansWithPipe(t *testing.T) {
	g := newGuest(t)
	c := g.run("orphan", false, "sh", "-c", "sleep 300 & sleep 0.5; echo bye; exit 4")
	e := c.startExec("e", false, false, "sh", "-c", "sleep 300 & echo first; exit 5")
	started := time.Now()
	if got := e.wait(); got != 5 || e.out.String() != "first\n" {
		t.Errorf("exec: status %d, output %q", got, e.out.String())
	}
	if got := c.wait(); got != 4 || c.out.String() != "bye\n" {
		t.Errorf("init: status %d, output %q", got, c.out.String())
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("exits took %v", took)
	}
}

// A host that does not read one stream holds up that process and no other.
func TestSlowReader(t *testing.T) {
	g := newGuest(t)
	c := g.run("slow", false, "sleep", "100")
	conn := g.open("stuck")
	stuck := &proc{guest: g, id: "slow", execID: "stuck", outID: "stuck"}
	g.check(stuck.exec(specs.Process{Args: []string{"yes"}, Cwd: "/", Env: []string{"PATH=/bin"}}))
	g.check(stuck.start())
	if got := c.startExec("free", false, false, "echo", "hi").wait(); got != 0 {
		t.Fatalf("status %d", got)
	}
	// A host that hangs up lets the process go on.
	g.check(conn.Close())
	stuck.want(types.Status_RUNNING)
	stuck.kill(unix.SIGTERM, false)
	if got := stuck.wait(); got != 143 {
		t.Fatalf("status %d, want 143", got)
	}
}

func TestTerminal(t *testing.T) {
	g := newGuest(t)
	c := g.newTask("tty", "", true, true)
	bundle := g.bundle("tty", func(s *specs.Spec) { s.Process.Terminal = true },
		"sh", "-c", "read x; stty size; exit 9")
	g.check(c.create(bundle))
	g.check(c.start())
	_, err := g.client.ResizePty(g.context(), &api.ResizePtyRequest{ID: "tty", Width: 123, Height: 45})
	g.check(err)
	_, _ = io.WriteString(c.in, "go\n")
	if got := c.wait(); got != 9 {
		t.Errorf("status %d, want 9", got)
	}
	if !strings.Contains(c.out.String(), "45 123\r\n") {
		t.Errorf("terminal says %q", c.out.String())
	}
	g.check(c.delete())
}

func TestTerminalExec(t *testing.T) {
	g := newGuest(t)
	c := g.run("ttyexec", false, "sleep", "100")
	e := c.startExec("e", true, true, "sh", "-c", "test -t 0 && test -t 1 && echo terminal; sleep 300 &")
	if got := e.wait(); got != 0 || e.out.String() != "terminal\r\n" {
		t.Fatalf("status %d, output %q", got, e.out.String())
	}
	_, err := g.client.ResizePty(g.context(), &api.ResizePtyRequest{ID: "ttyexec", Width: 1, Height: 1})
	if err := errgrpc.ToNative(err); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("resize without terminal: %v", err)
	}
}

func TestKillAllAndPids(t *testing.T) {
	g := newGuest(t)
	c := g.run("all", false, "sh", "-c", "trap '' TERM; while :; do sleep 100; done")
	e := c.startExec("e", false, false, "sleep", "100")
	r, err := g.client.Pids(g.context(), &api.PidsRequest{ID: "all"})
	g.check(err)
	described := 0
	for _, p := range r.Processes {
		if p.Info != nil {
			described++
		}
	}
	if len(r.Processes) < 2 || described != len(r.Processes) {
		t.Errorf("processes: %v", r.Processes)
	}
	e.kill(unix.SIGTERM, false)
	if got := e.wait(); got != 143 {
		t.Errorf("exec: status %d", got)
	}
	c.kill(unix.SIGKILL, true)
	if got := c.wait(); got != 137 {
		t.Errorf("init: status %d", got)
	}
	_, err = g.client.Kill(g.context(), &api.KillRequest{ID: "all", Signal: 9})
	if err := errgrpc.ToNative(err); !errdefs.IsNotFound(err) {
		t.Errorf("kill of a dead container: %v", err)
	}
}

// An exec's exit comes before that of the init it dies with.
func TestExitOrder(t *testing.T) {
	g := newGuest(t)
	c := g.run("order", false, "sleep", "100")
	var execs []*proc
	for _, id := range []string{"a", "b", "c"} {
		execs = append(execs, c.startExec(id, false, false, "sleep", "100"))
	}
	c.kill(unix.SIGKILL, false)
	c.wait()
	for _, e := range execs {
		e.want(types.Status_STOPPED)
		if got := e.wait(); got != 137 {
			t.Errorf("exec %s: status %d", e.execID, got)
		}
	}
	late := g.newTask("order", "late", false, false)
	if err := late.exec(specs.Process{Args: []string{"true"}, Cwd: "/"}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("exec in a dead container: %v", err)
	}
}

func TestPause(t *testing.T) {
	g := newGuest(t)
	c := g.run("pause", true, "cat")
	for range 2 {
		_, err := g.client.Pause(g.context(), &api.PauseRequest{ID: "pause"})
		g.check(err)
		c.want(types.Status_PAUSED)
		_, err = g.client.Pause(g.context(), &api.PauseRequest{ID: "pause"})
		if err := errgrpc.ToNative(err); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("second pause: %v", err)
		}
		_, err = g.client.Resume(g.context(), &api.ResumeRequest{ID: "pause"})
		g.check(err)
		c.want(types.Status_RUNNING)
	}
	_, err := g.client.Pause(g.context(), &api.PauseRequest{ID: "pause"})
	g.check(err)
	c.kill(unix.SIGKILL, false)
	if got := c.wait(); got != 137 {
		t.Errorf("status %d of a container killed while paused", got)
	}
}

func TestCloseIO(t *testing.T) {
	g := newGuest(t)
	c := g.run("closeio", true, "cat")
	_, err := g.client.CloseIO(g.context(), &api.CloseIORequest{ID: "closeio", Stdin: true})
	g.check(err)
	if got := c.wait(); got != 0 {
		t.Errorf("status %d", got)
	}
}

// A host that dies in the middle of standard input ends it.
func TestStdinLost(t *testing.T) {
	g := newGuest(t)
	c := g.run("lost", true, "cat")
	_, _ = io.WriteString(c.in, "half")
	g.check(c.stdin.Close())
	if got := c.wait(); got != 0 || c.out.String() != "half" {
		t.Errorf("status %d, output %q", got, c.out.String())
	}
}

func TestStats(t *testing.T) {
	g := newGuest(t)
	g.run("stats", false, "sleep", "100")
	r, err := g.client.Stats(g.context(), &api.StatsRequest{ID: "stats"})
	g.check(err)
	var m stats.Metrics
	g.check(r.Stats.UnmarshalTo(&m))
	if r.Stats.TypeUrl != "io.containerd.cgroups.v2.Metrics" || m.CPU.UsageUsec == 0 {
		t.Errorf("%s: %v", r.Stats.TypeUrl, &m)
	}
}

func TestNullStreams(t *testing.T) {
	g := newGuest(t)
	c := &proc{guest: g, id: "null"}
	g.check(c.create(g.bundle("null", nil, "sh", "-c", "cat; echo x; echo y >&2; exit 2")))
	g.check(c.start())
	if got := c.wait(); got != 2 {
		t.Errorf("status %d", got)
	}
}

func TestUpdate(t *testing.T) {
	g := newGuest(t)
	g.run("update", false, "sleep", "100")
	_, err := g.client.Update(g.context(), &api.UpdateTaskRequest{ID: "update", Resources: &anypb.Any{Value: []byte(`{}`)}})
	g.check(err)
	_, err = g.client.Update(g.context(), &api.UpdateTaskRequest{ID: "update", Resources: &anypb.Any{Value: []byte(`x`)}})
	if err := errgrpc.ToNative(err); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad resources: %v", err)
	}
}
