package container

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	runc "github.com/containerd/go-runc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/guest/stdio"
)

// Exit statuses of processes that never came to run, as shells and Docker
// have them.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

// process is an init or an exec.
type process struct {
	id     string // exec id; empty for an init
	stdio  stdio.Spec
	args0  string
	cwd    string
	spec   *specs.Process // of an exec
	log    string         // where the runtime logs for this process
	exited chan struct{}

	mu       sync.Mutex
	state    task.Status
	pid      int
	dead     bool // the pid may belong to another process soon
	set      *stdio.Set
	status   uint32
	exitedAt time.Time
}

func newProcess(id string, spec stdio.Spec, args []string, cwd, log string) *process {
	p := &process{id: id, stdio: spec, cwd: cwd, log: log, exited: make(chan struct{}), state: task.Status_CREATED}
	if len(args) > 0 {
		p.args0 = args[0]
	}
	return p
}

// open claims the streams of the process and, with a terminal, makes the
// socket its master comes by.
func (p *process) open(ctx context.Context, from streams) (*stdio.Set, *stdio.Console, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	set, err := stdio.Open(ctx, from, p.stdio)
	if err != nil || !p.stdio.Terminal {
		return set, nil, err
	}
	console, err := stdio.NewConsole()
	if err != nil {
		_ = set.Close()
		return nil, nil, err
	}
	return set, console, nil
}

// socket is console for go-runc, which takes a nil pointer for a socket.
func socket(console *stdio.Console) runc.ConsoleSocket {
	if console == nil {
		return nil
	}
	return console
}

// adopt makes p the process that a runtime has just made, and begins to copy.
func (p *process) adopt(ctx context.Context, pid int, set *stdio.Set, console *stdio.Console) error {
	if console != nil {
		ctx, cancel := context.WithTimeout(ctx, streamTimeout)
		defer cancel()
		master, err := console.Receive(ctx)
		if err != nil {
			return err
		}
		set.AttachConsole(master)
	}
	set.Begin()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid, p.set = pid, set
	return nil
}

// dying is called when the process has exited and still has its pid.
func (p *process) dying() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	p.exitedAt = time.Now()
}

// finish reports the exit once the output is out.
func (p *process) finish(ws unix.WaitStatus, grace time.Duration) {
	p.set.Drain(grace)
	_ = p.set.Close()
	p.stop(exitStatus(ws))
}

func exitStatus(ws unix.WaitStatus) uint32 {
	if ws.Signaled() {
		return exitSignal + uint32(ws.Signal())
	}
	return uint32(ws.ExitStatus())
}

// failure is the exit status that stands for a process that was not started.
func failure(err error) uint32 {
	if errdefs.IsNotFound(err) {
		return exitNotFound
	}
	return exitNotExecutable
}

func (p *process) stop(status uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == task.Status_STOPPED {
		return
	}
	p.state, p.status, p.dead = task.Status_STOPPED, status, true
	if p.exitedAt.IsZero() {
		p.exitedAt = time.Now()
	}
	close(p.exited)
}

// signal sends a signal to exactly this process.
func (p *process) signal(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return fmt.Errorf("process already finished: %w", errdefs.ErrNotFound)
	}
	if p.pid == 0 {
		return fmt.Errorf("process is not started: %w", errdefs.ErrFailedPrecondition)
	}
	if err := unix.Kill(p.pid, sig); err != nil {
		return fmt.Errorf("send %s to process %d: %w", sig, p.pid, err)
	}
	return nil
}

func (p *process) streams() (*stdio.Set, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set == nil || p.dead {
		return nil, fmt.Errorf("process is not running: %w", errdefs.ErrFailedPrecondition)
	}
	return p.set, nil
}

// running moves a created process on; a process that has exited since stays
// what it is.
func (p *process) running() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == task.Status_CREATED {
		p.state = task.Status_RUNNING
	}
}

// snapshot is a consistent view of the process.
type snapshot struct {
	state    task.Status
	pid      int
	status   uint32
	exitedAt time.Time
}

func (p *process) snapshot() snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := snapshot{state: p.state, pid: p.pid, status: p.status}
	if p.state == task.Status_STOPPED {
		s.exitedAt = p.exitedAt
	}
	return s
}

// fresh makes sure that what is logged from here on is about one command.
func fresh(log string) error {
	if err := os.Remove(log); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove old log: %w", err)
	}
	return nil
}
