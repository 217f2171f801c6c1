package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	runc "github.com/containerd/go-runc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/guest/account"
	"dougong.dev/dougong/internal/guest/stdio"
	"dougong.dev/dougong/internal/idmap"
)

const (
	// streamTimeout is how long the host may take to connect a stream that it
	// has named, and the runtime to send a terminal.
	streamTimeout = 30 * time.Second
	// commandTimeout bounds one run of the runtime.
	commandTimeout = 2 * time.Minute
	// initGrace is how long output counts after the death of an init, whose
	// cgroup is dead too: only a process outside can hold its pipes.
	initGrace = 10 * time.Second
	// execGrace is the same for an exec, whose children live on and may hold
	// its pipes for ever.
	execGrace = 500 * time.Millisecond
	// execsTimeout is how long an init's exit waits for those of its execs.
	execsTimeout = 10 * time.Second
)

// container is an init and the execs beside it.
type container struct {
	id, bundle string
	runtime    *runc.Runc
	reaper     *reaper
	cgroup     cgroup
	init       *process
	// owners maps the ids of the container to those of the machine.
	owners idmap.Map

	// starting is held for reading while an exec is started, so that the end
	// of the container waits for it and sees it.
	starting sync.RWMutex
	ended    bool

	mu     sync.Mutex
	execs  map[string]*process
	paused bool
}

// initSpec is the part of a spec's process that is of use here. The rest is
// for the runtime alone, and would take long to read.
type initSpec struct {
	Args []string
	Cwd  string
	User struct{ UID, GID uint32 }
}

// readProcess reads the process of a bundle's spec, and how ids are mapped.
func readProcess(bundle string) (*initSpec, idmap.Map, error) {
	var none idmap.Map
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, none, fmt.Errorf("bundle %q has no config.json: %w", bundle, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, none, fmt.Errorf("read spec: %w", err)
	}
	var spec struct {
		Process *initSpec
		Linux   struct{ UIDMappings, GIDMappings []specs.LinuxIDMapping }
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, none, fmt.Errorf("spec of bundle %q: %w: %w", bundle, err, errdefs.ErrInvalidArgument)
	}
	if spec.Process == nil || len(spec.Process.Args) == 0 {
		return nil, none, fmt.Errorf("spec of bundle %q has no command: %w", bundle, errdefs.ErrInvalidArgument)
	}
	owners, err := idmap.Of(spec.Linux.UIDMappings, spec.Linux.GIDMappings)
	if err != nil {
		return nil, none, fmt.Errorf("spec of bundle %q: %w", bundle, err)
	}
	return spec.Process, owners, nil
}

// give gives the pipes of a process to its user.
func (c *container) give(set *stdio.Set, uid, gid uint32) error {
	uid, gid = c.owners.Owner(uid, gid)
	return set.Chown(int(uid), int(gid))
}

// create runs the runtime up to the point where the init waits to be started.
func (c *container) create(ctx context.Context, from streams) (err error) {
	spec, owners, err := readProcess(c.bundle)
	if err != nil {
		return err
	}
	c.owners = owners
	c.init.args0, c.init.cwd = spec.Args[0], spec.Cwd
	set, console, err := c.init.open(ctx, from)
	if err != nil {
		return err
	}
	defer func() {
		if console != nil {
			_ = console.Close()
		}
		if err != nil {
			_ = set.Close()
		}
	}()
	if err := errors.Join(c.give(set, spec.User.UID, spec.User.GID), fresh(c.init.log)); err != nil {
		return err
	}
	defer c.reaper.hold()()
	pidFile := filepath.Join(c.bundle, "init.pid")
	opts := &runc.CreateOpts{IO: set, PidFile: pidFile, ConsoleSocket: socket(console)}
	if err := c.runtime.Create(ctx, c.id, c.bundle, opts); err != nil {
		return commandError(ctx, err, c.init.log, c.init.args0, c.init.cwd)
	}
	return c.adopt(ctx, pidFile, set, console)
}

func (c *container) adopt(ctx context.Context, pidFile string, set *stdio.Set, console *stdio.Console) error {
	pid, err := runc.ReadPidFile(pidFile)
	if err != nil {
		return fmt.Errorf("read pid of container: %w", err)
	}
	c.cgroup = cgroupOf(pid)
	if err := c.init.adopt(ctx, pid, set, console); err != nil {
		return err
	}
	c.reaper.watch(pid, c.init.dying, c.exited)
	return nil
}

// exited is the end of the container: nobody of it lives on, and its exit is
// the last to be reported.
func (c *container) exited(status unix.WaitStatus) {
	_ = c.cgroup.kill()
	c.starting.Lock()
	c.ended = true
	c.starting.Unlock()
	_ = c.cgroup.kill()
	limit := time.NewTimer(execsTimeout)
	defer limit.Stop()
	for _, e := range c.started() {
		select {
		case <-e.exited:
		case <-limit.C:
		}
	}
	c.init.finish(status, initGrace)
}

// started are the execs that have a process.
func (c *container) started() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*process
	for _, e := range c.execs {
		if e.snapshot().pid != 0 {
			all = append(all, e)
		}
	}
	return all
}

func (c *container) start(ctx context.Context) error {
	if s := c.init.snapshot().state; s != task.Status_CREATED {
		return fmt.Errorf("container %q is %s: %w", c.id, name(s), errdefs.ErrFailedPrecondition)
	}
	if !c.release() {
		defer c.reaper.hold()()
		if err := c.runtime.Start(ctx, c.id); err != nil {
			return commandError(ctx, err, c.init.log, c.init.args0, c.init.cwd)
		}
	}
	c.init.running()
	return nil
}

// execFIFO is what an init that crun has made reads a byte from before it
// becomes the container's program.
const execFIFO = "exec.fifo"

// release lets the init run, as the runtime's start would: hooks that come
// after the start are for the host. It reports whether it could; if not, the
// runtime knows why.
func (c *container) release() bool {
	path := filepath.Join(c.runtime.Root, c.id, execFIFO)
	// Without an init that reads, this fails instead of waiting for one.
	fifo, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer func() { _ = fifo.Close() }()
	// Its absence tells the runtime that the container was started.
	if err := os.Remove(path); err != nil {
		return false
	}
	_, err = fifo.Write([]byte{0})
	return err == nil
}

// startExec starts the process that exec has registered.
func (c *container) startExec(ctx context.Context, p *process, spec specs.Process, from streams) error {
	c.starting.RLock()
	defer c.starting.RUnlock()
	s := p.snapshot()
	if s.state != task.Status_CREATED || s.pid != 0 {
		return fmt.Errorf("exec %q is %s: %w", p.id, name(s.state), errdefs.ErrFailedPrecondition)
	}
	if c.ended {
		return c.notRunning()
	}
	err := c.runExec(ctx, p, spec, from)
	if err != nil {
		p.stop(failure(err))
		return err
	}
	p.running()
	return nil
}

func (c *container) runExec(ctx context.Context, p *process, spec specs.Process, from streams) (err error) {
	if err := account.Apply(fmt.Sprintf("/proc/%d/root", c.init.snapshot().pid), &spec); err != nil {
		return err
	}
	set, console, err := p.open(ctx, from)
	if err != nil {
		return err
	}
	pidFile := p.log + ".pid"
	defer func() {
		_ = os.Remove(pidFile)
		if console != nil {
			_ = console.Close()
		}
		if err != nil {
			_ = set.Close()
		}
	}()
	if err := errors.Join(c.give(set, spec.User.UID, spec.User.GID), fresh(p.log)); err != nil {
		return err
	}
	defer c.reaper.hold()()
	opts := &runc.ExecOpts{IO: set, LogFile: p.log, PidFile: pidFile, ConsoleSocket: socket(console), Detach: true}
	if err := c.runtime.Exec(ctx, c.id, spec, opts); err != nil {
		return commandError(ctx, err, p.log, p.args0, p.cwd)
	}
	pid, err := runc.ReadPidFile(pidFile)
	if err != nil {
		return fmt.Errorf("read pid of exec: %w", err)
	}
	if err := p.adopt(ctx, pid, set, console); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		return err
	}
	c.reaper.watch(pid, p.dying, func(status unix.WaitStatus) { p.finish(status, execGrace) })
	return nil
}

// kill signals the init, or every process of the container.
func (c *container) kill(ctx context.Context, sig unix.Signal, all bool) error {
	if !all {
		return c.init.signal(sig)
	}
	if c.cgroup == "" {
		return c.run(func() error { return c.runtime.Kill(ctx, c.id, int(sig), &runc.KillOpts{All: true}) })
	}
	if sig == unix.SIGKILL {
		return c.cgroup.kill()
	}
	pids, err := c.cgroup.pids()
	if err != nil {
		return fmt.Errorf("list processes of container %q: %w", c.id, err)
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("send %s to process %d: %w", sig, pid, err)
		}
	}
	return nil
}

// run keeps the reaper away from a command of the runtime.
func (c *container) run(command func() error) error {
	defer c.reaper.hold()()
	if err := command(); err != nil {
		return fmt.Errorf("container %q: %w", c.id, err)
	}
	return nil
}

func (c *container) setPaused(ctx context.Context, paused bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.init.snapshot().state != task.Status_RUNNING || c.paused == paused {
		return fmt.Errorf("container %q is %s: %w", c.id, name(c.stateLocked()), errdefs.ErrFailedPrecondition)
	}
	change := c.runtime.Resume
	if paused {
		change = c.runtime.Pause
	}
	if err := c.run(func() error { return change(ctx, c.id) }); err != nil {
		return err
	}
	c.paused = paused
	return nil
}

func (c *container) stateLocked() task.Status {
	s := c.init.snapshot().state
	if s == task.Status_RUNNING && c.paused {
		return task.Status_PAUSED
	}
	return s
}

func (c *container) state() task.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stateLocked()
}

// end kills what lives of a container and waits for its exit.
func (c *container) end(ctx context.Context) error {
	if s := c.init.snapshot(); s.pid == 0 || s.state == task.Status_STOPPED {
		return nil
	}
	_ = c.init.signal(unix.SIGKILL)
	_ = c.cgroup.kill()
	select {
	case <-c.init.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of container %q: %w", c.id, context.Cause(ctx))
	}
}

// destroy ends a container for good, whatever its state.
func (c *container) destroy(ctx context.Context) error {
	if err := c.end(ctx); err != nil {
		return err
	}
	return c.run(func() error { return c.runtime.Delete(ctx, c.id, &runc.DeleteOpts{Force: true}) })
}

func (c *container) notRunning() error {
	return fmt.Errorf("container %q is not running: %w", c.id, errdefs.ErrFailedPrecondition)
}

// process finds an exec, or the init for the empty id.
func (c *container) process(execID string) (*process, error) {
	if execID == "" {
		return c.init, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.execs[execID]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("exec %q of container %q: %w", execID, c.id, errdefs.ErrNotFound)
}

func name(s task.Status) string { return strings.ToLower(s.String()) }
