package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	api "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	runc "github.com/containerd/go-runc"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"dougong.dev/dougong/internal/guest/stdio"
)

// streams is where the host's stdio connections are found by id.
type streams interface {
	Wait(ctx context.Context, id string) (net.Conn, error)
}

// Config is what a Service works with.
type Config struct {
	// Binary is the OCI runtime.
	Binary string
	// Args are arguments of the runtime before its command.
	Args []string
	// Root is the directory for the runtime's state.
	Root string
}

// Service implements containerd's Task service (version 3). Stdin, stdout and
// stderr of its requests are stream ids.
type Service struct {
	config  Config
	streams streams
	reaper  *reaper

	mu         sync.Mutex
	containers map[string]*container
}

var _ api.TTRPCTaskService = (*Service)(nil)

// NewService returns a service whose orphans are reaped until ctx ends. The
// process must be a subreaper, and there can be one Service in it.
func NewService(ctx context.Context, config Config, from streams) (*Service, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	s := &Service{config: config, streams: from, reaper: newReaper(), containers: make(map[string]*container)}
	go s.reaper.run(ctx)
	return s, nil
}

// With returns a service with no containers yet, whose stdio comes from other
// streams. It shares the reaper, of which a process can have but one.
func (s *Service) With(from streams) *Service {
	return &Service{config: s.config, streams: from, reaper: s.reaper, containers: make(map[string]*container)}
}

var validID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

func checkID(what, id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("%s %q: %w", what, id, errdefs.ErrInvalidArgument)
	}
	return nil
}

// errCommandTime is why a run of the runtime was ended.
var errCommandTime = fmt.Errorf("it did not end within %s by the guest's clock", commandTimeout)

// command is the context of a run of the runtime. It does not end with the
// request: a runtime that is killed half-way leaves half a container.
func command(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), commandTimeout, errCommandTime)
}

func (s *Service) container(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.containers[id]; c != nil && c.init.snapshot().pid != 0 {
		return c, nil
	}
	return nil, fmt.Errorf("container %q: %w", id, errdefs.ErrNotFound)
}

func (s *Service) process(id, execID string) (*container, *process, error) {
	c, err := s.container(id)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.process(execID)
	return c, p, err
}

// Create makes a container from a bundle. Its init waits to be started.
func (s *Service) Create(ctx context.Context, r *api.CreateTaskRequest) (*api.CreateTaskResponse, error) {
	if err := checkID("container id", r.ID); err != nil {
		return nil, err
	}
	if len(r.Rootfs) > 0 || r.Checkpoint != "" {
		return nil, fmt.Errorf("create %q: root file systems and checkpoints are no matter of the guest: %w",
			r.ID, errdefs.ErrInvalidArgument)
	}
	spec := stdio.Spec{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal}
	log := filepath.Join(r.Bundle, "runtime.log")
	c := &container{
		id: r.ID, bundle: r.Bundle, reaper: s.reaper, execs: make(map[string]*process),
		init: newProcess("", spec, nil, "", log),
		runtime: &runc.Runc{
			Command: s.config.Binary, Root: s.config.Root, ExtraArgs: s.config.Args, Log: log, LogFormat: runc.Text,
		},
	}
	if err := s.add(c); err != nil {
		return nil, err
	}
	ctx, cancel := command(ctx)
	defer cancel()
	if err := c.create(ctx, s.streams); err != nil {
		// It may have failed for want of time.
		clean, cancel := command(ctx)
		defer cancel()
		_ = c.destroy(clean)
		s.forget(c)
		return nil, err
	}
	return &api.CreateTaskResponse{Pid: uint32(c.init.snapshot().pid)}, nil
}

func (s *Service) add(c *container) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.containers[c.id] != nil {
		return fmt.Errorf("container %q: %w", c.id, errdefs.ErrAlreadyExists)
	}
	s.containers[c.id] = c
	return nil
}

func (s *Service) forget(c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, c.id)
}

// Start starts an init or an exec.
func (s *Service) Start(ctx context.Context, r *api.StartRequest) (*api.StartResponse, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := command(ctx)
	defer cancel()
	if r.ExecID == "" {
		err = c.start(ctx)
	} else {
		err = c.startExec(ctx, p, *p.spec, s.streams)
	}
	if err != nil {
		return nil, err
	}
	return &api.StartResponse{Pid: uint32(p.snapshot().pid)}, nil
}

// Exec registers a further process of a running container.
func (s *Service) Exec(_ context.Context, r *api.ExecProcessRequest) (*emptypb.Empty, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	if err := checkID("exec id", r.ExecID); err != nil {
		return nil, err
	}
	var spec specs.Process
	if err := json.Unmarshal(r.Spec.GetValue(), &spec); err != nil {
		return nil, fmt.Errorf("spec of exec %q: %w: %w", r.ExecID, err, errdefs.ErrInvalidArgument)
	}
	if len(spec.Args) == 0 {
		return nil, fmt.Errorf("exec %q has no command: %w", r.ExecID, errdefs.ErrInvalidArgument)
	}
	spec.Terminal = r.Terminal
	io := stdio.Spec{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal}
	p := newProcess(r.ExecID, io, spec.Args, spec.Cwd, filepath.Join(c.bundle, "exec-"+r.ExecID+".log"))
	p.spec = &spec
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stateLocked() != task.Status_RUNNING {
		return nil, c.notRunning()
	}
	if c.execs[r.ExecID] != nil {
		return nil, fmt.Errorf("exec %q: %w", r.ExecID, errdefs.ErrAlreadyExists)
	}
	c.execs[r.ExecID] = p
	return &emptypb.Empty{}, nil
}

// Delete removes a stopped process; with an init its container goes.
func (s *Service) Delete(ctx context.Context, r *api.DeleteRequest) (*api.DeleteResponse, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if state := p.snapshot().state; state == task.Status_RUNNING {
		return nil, fmt.Errorf("delete %s: process is running: %w", r.ID, errdefs.ErrFailedPrecondition)
	}
	ctx, cancel := command(ctx)
	defer cancel()
	if r.ExecID != "" {
		c.mu.Lock()
		delete(c.execs, r.ExecID)
		c.mu.Unlock()
		_ = os.Remove(p.log)
	} else {
		if err := c.destroy(ctx); err != nil {
			return nil, err
		}
		s.forget(c)
	}
	end := p.snapshot()
	return &api.DeleteResponse{Pid: uint32(end.pid), ExitStatus: end.status, ExitedAt: timestamp(end.exitedAt)}, nil
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// State tells everything about a process.
func (s *Service) State(_ context.Context, r *api.StateRequest) (*api.StateResponse, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	now := p.snapshot()
	if r.ExecID == "" {
		now.state = c.state()
	}
	return &api.StateResponse{
		ID: c.id, Bundle: c.bundle, ExecID: p.id, Pid: uint32(now.pid), Status: now.state,
		Stdin: p.stdio.Stdin, Stdout: p.stdio.Stdout, Stderr: p.stdio.Stderr, Terminal: p.stdio.Terminal,
		ExitStatus: now.status, ExitedAt: timestamp(now.exitedAt),
	}, nil
}

// Wait returns when a process has exited and its output is out.
func (s *Service) Wait(ctx context.Context, r *api.WaitRequest) (*api.WaitResponse, error) {
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	end := p.snapshot()
	return &api.WaitResponse{ExitStatus: end.status, ExitedAt: timestamp(end.exitedAt)}, nil
}

// Kill signals a process, or every process of a container.
func (s *Service) Kill(ctx context.Context, r *api.KillRequest) (*emptypb.Empty, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	sig := unix.Signal(r.Signal)
	if r.ExecID != "" {
		return &emptypb.Empty{}, p.signal(sig)
	}
	ctx, cancel := command(ctx)
	defer cancel()
	return &emptypb.Empty{}, c.kill(ctx, sig, r.All)
}

// Pids lists the processes of a container by their pids in the guest, each
// with its command line and user.
func (s *Service) Pids(ctx context.Context, r *api.PidsRequest) (*api.PidsResponse, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := command(ctx)
	defer cancel()
	pids, err := c.pids(ctx)
	if err != nil {
		return nil, err
	}
	response := &api.PidsResponse{}
	for _, pid := range pids {
		info, err := describe("/proc", pid)
		if err != nil {
			return nil, err
		}
		response.Processes = append(response.Processes, &task.ProcessInfo{Pid: uint32(pid), Info: info})
	}
	return response, nil
}

func (c *container) pids(ctx context.Context) (pids []int, err error) {
	if c.cgroup == "" {
		err = c.run(func() error { pids, err = c.runtime.Ps(ctx, c.id); return err })
	} else if pids, err = c.cgroup.pids(); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list processes of container %q: %w", c.id, err)
	}
	return pids, nil
}

func packed(message any) (*anypb.Any, error) {
	a, err := typeurl.MarshalAnyToProto(message)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", message, err)
	}
	return a, nil
}

// Pause stops every process of a container where it is.
func (s *Service) Pause(ctx context.Context, r *api.PauseRequest) (*emptypb.Empty, error) {
	return s.setPaused(ctx, r.ID, true)
}

// Resume undoes Pause.
func (s *Service) Resume(ctx context.Context, r *api.ResumeRequest) (*emptypb.Empty, error) {
	return s.setPaused(ctx, r.ID, false)
}

func (s *Service) setPaused(ctx context.Context, id string, paused bool) (*emptypb.Empty, error) {
	c, err := s.container(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := command(ctx)
	defer cancel()
	return &emptypb.Empty{}, c.setPaused(ctx, paused)
}

// ResizePty sets the size of a process's terminal.
func (s *Service) ResizePty(_ context.Context, r *api.ResizePtyRequest) (*emptypb.Empty, error) {
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	set, err := p.streams()
	if err != nil {
		return nil, err
	}
	if err := set.Resize(r.Width, r.Height); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return &emptypb.Empty{}, nil
}

// CloseIO ends the standard input of a process at once, without what is still
// on its way. Hosts that have an end of their stream send that end in band.
func (s *Service) CloseIO(_ context.Context, r *api.CloseIORequest) (*emptypb.Empty, error) {
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if set, err := p.streams(); err == nil && r.Stdin {
		set.CloseStdin()
	}
	return &emptypb.Empty{}, nil
}

// Update changes the resources of a container.
func (s *Service) Update(ctx context.Context, r *api.UpdateTaskRequest) (*emptypb.Empty, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	var resources specs.LinuxResources
	if err := json.Unmarshal(r.Resources.GetValue(), &resources); err != nil {
		return nil, fmt.Errorf("resources of container %q: %w: %w", r.ID, err, errdefs.ErrInvalidArgument)
	}
	ctx, cancel := command(ctx)
	defer cancel()
	return &emptypb.Empty{}, c.run(func() error { return c.runtime.Update(ctx, c.id, &resources) })
}

// Stats counts what a container uses, as io.containerd.cgroups.v2.Metrics.
func (s *Service) Stats(_ context.Context, r *api.StatsRequest) (*api.StatsResponse, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	if c.cgroup == "" {
		return nil, fmt.Errorf("container %q has no cgroup: %w", r.ID, errdefs.ErrFailedPrecondition)
	}
	metrics, err := packed(c.cgroup.metrics())
	if err != nil {
		return nil, err
	}
	return &api.StatsResponse{Stats: metrics}, nil
}

// Checkpoint is not offered: virtual machines are saved as a whole.
func (s *Service) Checkpoint(context.Context, *api.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, fmt.Errorf("checkpoint of a single container: %w", errdefs.ErrNotImplemented)
}

// Connect tells the pids of the agent and of a container's init.
func (s *Service) Connect(_ context.Context, r *api.ConnectRequest) (*api.ConnectResponse, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	return &api.ConnectResponse{ShimPid: uint32(os.Getpid()), TaskPid: uint32(c.init.snapshot().pid)}, nil
}

// Shutdown does nothing: the virtual machine is shut down as a whole.
func (s *Service) Shutdown(context.Context, *api.ShutdownRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// KillAll ends every process of every container, waiting until ctx ends. What
// the runtime keeps about containers stays: the machine goes down.
func (s *Service) KillAll(ctx context.Context) {
	var wg sync.WaitGroup
	for _, c := range s.all() {
		wg.Go(func() { _ = c.end(ctx) })
	}
	wg.Wait()
}

func (s *Service) all() []*container {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.containers))
}
