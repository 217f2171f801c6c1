package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/hook"
	"dougong.dev/dougong/internal/transport"
)

// lostStatus is the exit status of a process whose VM went away: what it
// would have been had somebody killed the process itself.
const lostStatus = 128 + 9

// Process is the init of a container or an exec in it.
type Process struct {
	Terminal bool

	c      *Container
	execID string
	stdio  Stdio
	life   lifecycle
	output sync.WaitGroup
	// streams are the connections that carry stdio.
	streams streams
	mu      sync.Mutex
	watched []*transport.Watched
	// exited is closed when the exit is known and its output was handed over.
	exited chan struct{}
	ending sync.Once

	pid uint32
	// startedAt is when the process was about to be started.
	startedAt time.Time
	// answered is closed when the guest has answered to the start, nil before it.
	answered chan struct{}

	status   uint32
	exitedAt time.Time
	err      error
}

func newProcess(c *Container, execID string, terminal bool, stdio Stdio) *Process {
	what := "container " + c.ID
	if execID != "" {
		what = fmt.Sprintf("process %s of container %s", execID, c.ID)
	}
	return &Process{Terminal: terminal, c: c, execID: execID, stdio: stdio, life: lifecycle{what: what}, exited: make(chan struct{})}
}

// create opens the streams, makes the process in the guest and starts to
// carry its stdio.
func (p *Process) create(ctx context.Context, inGuest func(context.Context, streamIDs) (uint32, error)) error {
	done := p.c.sandbox.phase(ctx, "stdio")
	ids, err := p.openStreams(ctx)
	done()
	if err != nil {
		p.stdio.Close()
		return err
	}
	if p.pid, err = inGuest(ctx, ids); err != nil {
		p.streams.close()
		p.stdio.Close()
		return err
	}
	p.carry()
	if p.execID == "" {
		// An init lives from here on; it may be killed before it is started.
		go p.await()
	}
	return nil
}

// Start runs a created process.
func (p *Process) Start(ctx context.Context) (uint32, error) {
	if err := p.life.expect(Created, "start"); err != nil {
		return 0, err
	}
	if p.execID == "" {
		// Whoever fills the network late has done so by now.
		if err := p.c.sandbox.syncNetwork(ctx); err != nil {
			return 0, p.c.sandbox.lostOr(err)
		}
		p.c.sandbox.offerResolver(ctx)
	}
	answered := p.setStarted(time.Now())
	done := p.c.sandbox.phase(ctx, "start")
	resp, err := p.c.task().Start(ctx, &task.StartRequest{ID: p.c.ID, ExecID: p.execID})
	close(answered)
	done()
	if err != nil {
		return 0, p.c.sandbox.lostOr(err)
	}
	p.pid = resp.GetPid()
	p.life.to(Running)
	go p.carryInput()
	if p.execID != "" {
		go p.await()
		return p.pid, nil
	}
	p.c.sandbox.traceStart(ctx)
	logError("after the start", p.c.sandbox.opts.ID, p.c.runHooks(ctx, specs.StateRunning, hook.Poststart))
	return p.pid, nil
}

// await learns the exit from the guest and reports it in the promised order.
func (p *Process) await() {
	s := p.c.sandbox
	resp, err := p.c.task().Wait(context.Background(), &task.WaitRequest{ID: p.c.ID, ExecID: p.execID})
	status, at := resp.GetExitStatus(), within(resp.GetExitedAt().AsTime(), p.started(), time.Now())
	if err != nil {
		<-s.lost
		status, at = lostStatus, time.Now()
		if err = s.Err(); err == nil {
			err = errStopped
		}
	}
	if p.execID == "" {
		p.awaitExecs()
	}
	p.drain()
	p.awaitAnswer()
	p.finish(status, at, err)
}

// awaitAnswer holds the exit back until the guest has answered to the start: a
// process can end before that, and those who hear of its end may end the
// machine. A guest that does not answer holds it up for a bounded time.
func (p *Process) awaitAnswer() {
	p.mu.Lock()
	answered := p.answered
	p.mu.Unlock()
	if answered == nil {
		return
	}
	select {
	case <-answered:
	case <-time.After(p.c.sandbox.opts.DrainTimeout):
	}
}

// within corrects a time of the guest, whose clock is a little off or may lie.
func within(at, earliest, now time.Time) time.Time {
	if at.Before(earliest) || at.After(now) {
		return now
	}
	return at
}

// setStarted notes the time of a start, and returns what is to be closed when
// the guest has answered to it.
func (p *Process) setStarted(at time.Time) (answered chan<- struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.startedAt, p.answered = at, make(chan struct{})
	return p.answered
}

func (p *Process) started() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.startedAt
}

// awaitExecs holds the exit of an init back until its execs have exited.
func (p *Process) awaitExecs() {
	limit := time.After(p.c.sandbox.opts.DrainTimeout)
	for _, exec := range p.c.liveExecs() {
		select {
		case <-exec.exited:
		case <-limit:
			slog.Warn("exec did not end with its container", "container", p.c.ID, "exec", exec.execID)
			return
		}
	}
}

// drain waits until all output was handed over, however slowly it is read. Output
// that nobody reads, or that does not come, holds the exit up for a bounded time.
func (p *Process) drain() {
	drained := make(chan struct{})
	go func() {
		p.output.Wait()
		close(drained)
	}()
	start, limit := time.Now(), p.c.sandbox.opts.DrainTimeout
	for waiting := true; waiting; {
		select {
		case <-drained:
			waiting = false
		case <-time.After(limit / drainLooks):
			if p.hopeless(start, limit) {
				slog.Warn("output of an ended process is not read, dropping the rest", "container", p.c.ID, "exec", p.execID)
				waiting = false
			}
		}
	}
	p.streams.close()
	p.stdio.Close()
}

// drainLooks is how often one looks during a drain's time.
const drainLooks = 20

func (p *Process) finish(status uint32, at time.Time, err error) {
	p.ending.Do(func() {
		p.status, p.exitedAt, p.err = status, at, err
		p.life.to(Stopped)
		close(p.exited)
	})
}

// State is where the process is in its life.
func (p *Process) State() State { return p.life.get() }

// ExecID names an exec in its container; it is empty for an init.
func (p *Process) ExecID() string { return p.execID }

// PID is the process's id in the guest, 0 for an exec before Start.
func (p *Process) PID() uint32 { return p.pid }

// Exited is closed when the process has ended and its output was handed over.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Exit returns the exit status, its time, and why the process did not end by
// itself, if so. It is valid after Exited is closed.
func (p *Process) Exit() (uint32, time.Time, error) {
	return p.status, p.exitedAt, p.err
}

// Kill sends a signal; all extends it to every process of the container.
func (p *Process) Kill(ctx context.Context, signal uint32, all bool) error {
	if p.State() == Stopped {
		return fmt.Errorf("%s: process already finished: %w", p.life.what, errdefs.ErrNotFound)
	}
	_, err := p.c.task().Kill(ctx, &task.KillRequest{ID: p.c.ID, ExecID: p.execID, Signal: signal, All: all})
	if errdefs.IsUnavailable(err) && p.endsWithin(2*p.c.sandbox.opts.StopTimeout) {
		// The sandbox went with its container before the answer was out.
		return nil
	}
	return err
}

func (p *Process) endsWithin(limit time.Duration) bool {
	select {
	case <-p.exited:
		return true
	case <-time.After(limit):
		return false
	}
}

// Resize sets the size of the process's terminal.
func (p *Process) Resize(ctx context.Context, width, height uint32) error {
	_, err := p.c.task().ResizePty(ctx, &task.ResizePtyRequest{ID: p.c.ID, ExecID: p.execID, Width: width, Height: height})
	return err
}

// CloseStdin lets the process see the end of its input as soon as what was
// written so far has been read.
func (p *Process) CloseStdin() {
	if p.stdio.EndInput != nil {
		p.stdio.EndInput()
	}
}

// Delete removes an ended or never started process from the guest.
func (p *Process) Delete(ctx context.Context) error {
	if err := p.Deletable(); err != nil {
		return err
	}
	s := p.c.sandbox
	neverStarted := p.life.to(Stopped)
	var err error
	if !s.ending() {
		_, err = p.c.task().Delete(ctx, &task.DeleteRequest{ID: p.c.ID, ExecID: p.execID})
		if err != nil && s.ending() {
			// The guest has taken everything apart before it was asked for this.
			err = nil
		}
	}
	if neverStarted {
		p.streams.close()
		p.stdio.Close()
		p.finish(0, time.Now(), nil)
	}
	if p.execID != "" {
		p.c.removeExec(p.execID)
		return err
	}
	if !s.ending() && p.c.tasks == nil {
		p.c.deleteBundle(ctx)
	}
	p.c.attached.unwind()
	s.forget(p.c)
	if s.Containers() > 0 {
		// A guest may take a while over it, and nobody waits for that.
		go s.giveBack(context.WithoutCancel(ctx))
	}
	logError("after the end", s.opts.ID, p.c.runHooks(context.WithoutCancel(ctx), specs.StateStopped, hook.Poststop))
	return err
}
