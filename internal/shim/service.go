package shim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"dougong.dev/dougong/internal/child"
	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/handover"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/sandbox"
	"dougong.dev/dougong/internal/storage"
)

// Service answers containerd's Task service for one sandbox.
type Service struct {
	// build makes the sandbox of the first container's bundle.
	build func(bundle string) (*sandbox.Sandbox, error)
	// onCreate, when set, is told of each container that was made.
	onCreate func(*sandbox.Container)
	// onStart, when set, is told that the init of a container runs.
	onStart func(*sandbox.Container)
	// owner, when set, is the container that the sandbox ends with, and all others
	// have joined it.
	owner string
	// shutdown ends the sandbox process.
	shutdown func()
	// publish, when set, sends an event to the daemon above. The service then
	// also ends the sandbox with its container.
	publish func(topic string, event proto.Message)
	// nothing is an empty directory, for stand-ins that see no files.
	nothing string
	// handed has the files that commands have handed over, if any may.
	handed *handover.Desk
	// mounts is the mount namespace of the daemon, if it is another.
	mounts *os.File
	// namespace is the daemon's name for what is not to be mixed up.
	namespace string
	// watches are the goroutines that send exits.
	watches sync.WaitGroup

	mu      sync.Mutex
	sandbox *sandbox.Sandbox
	lives   map[string]*life
	// early are stand-ins by container ids, before the containers are made.
	early map[string]*child.Process
	// proxies are processes of the host that stand for ours.
	proxies map[processKey]*proxy
	// pod is the sandbox that was made by the Sandbox service, "" without one.
	// Its events are nobody's. podFiles are those of its containers.
	pod      string
	podFiles map[string]string
	// stdio is what processes were made with, for those who attach later.
	stdio map[processKey]URIs

	creating sync.Mutex
	// creations are those under way, and those of the containers there are.
	creations map[string]*creation
}

// processKey names a process; an init has no exec id.
type processKey struct{ id, execID string }

var empty = &emptypb.Empty{}

func (s *Service) create(ctx context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	if r.Checkpoint != "" {
		return nil, fmt.Errorf("restore container %s from a checkpoint: %w", r.ID, errdefs.ErrNotImplemented)
	}
	role, sb, err := s.sandboxFor(r)
	if err != nil {
		return nil, err
	}
	stdio, standing, err := s.openStreams(ctx, URIs{
		Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal,
		Namespace: s.namespace, Container: r.ID,
	})
	if err != nil {
		return nil, err
	}
	spec := sandbox.ContainerSpec{ID: r.ID, Role: role, Peer: s.peer, Bundle: r.Bundle, Stdio: stdio, Options: r.Options, Follow: config.Follow}
	for _, m := range r.Rootfs {
		spec.Rootfs = append(spec.Rootfs, storage.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	spec.PodFiles = s.filesOf(r.ID)
	switch {
	case s.publish != nil:
		if role == oci.PodContainer && s.mounts != nil {
			spec.View = storage.NewView(duplicate(s.mounts))
		}
		spec.HostPID = s.hostPID
		defer s.endEarly(r.ID)
	case standing != nil:
		spec.HostPID = func(*sandbox.Container) (int, error) { return standing.pid, nil }
		spec.NetPath = fmt.Sprintf("/proc/%d/ns/net", standing.pid)
		spec.View, standing.mounts = storage.NewView(standing.mounts), nil
	}
	container, err := sb.CreateContainer(ctx, spec)
	if err != nil {
		logDropped(standing.drop())
		// The next Create begins anew.
		if s.publish != nil && sb.Containers() == 0 {
			sb.Stop(context.WithoutCancel(ctx))
		}
		return nil, err
	}
	s.represent(processKey{r.ID, ""}, container.Init(), standing)
	s.remember(r.ID, "", URIs{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr})
	if s.onCreate != nil {
		s.onCreate(container)
	}
	if err := s.created(container, r); err != nil {
		if container.Owns() {
			sb.Stop(context.WithoutCancel(ctx))
		}
		return nil, errors.Join(err, container.Init().Delete(ctx))
	}
	return &task.CreateTaskResponse{Pid: cmp.Or(s.standInPID(container.ID), uint32(os.Getpid()))}, nil
}

// sandboxFor returns the sandbox of a container, which is made for the first
// one, and what the container is to it.
func (s *Service) sandboxFor(r *task.CreateTaskRequest) (oci.Role, *sandbox.Sandbox, error) {
	spec, err := readAnnotated(r.Bundle)
	if err != nil {
		return oci.Single, nil, err
	}
	role, id, err := oci.PodOf(r.ID, spec.Annotations)
	if err != nil {
		return role, nil, err
	}
	role = s.standing(r.ID, role)
	if role == oci.PodContainer {
		if sb := s.current(); sb != nil {
			return role, sb, nil
		}
		return role, nil, fmt.Errorf("container %s: its sandbox %s does not run: %w", r.ID, id, errdefs.ErrFailedPrecondition)
	}
	sb, err := s.ensureSandbox(r.Bundle)
	return role, sb, err
}

// standing is the role of a container where its caller has decided whose sandbox
// it is in, whatever its annotations say.
func (s *Service) standing(id string, role oci.Role) oci.Role {
	switch {
	case s.owner == "":
		return role
	case id != s.owner:
		return oci.PodContainer
	case role == oci.PodContainer:
		return oci.Single
	}
	return role
}

// makePod says that the sandbox service makes a pod, with files that its
// containers have.
func (s *Service) makePod(id string, files map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pod, s.podFiles = id, files
}

// filesOf are a pod's files, for the container that stands for it.
func (s *Service) filesOf(id string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != s.pod {
		return nil
	}
	return s.podFiles
}

// announced reports whether anybody is told of a container.
func (s *Service) announced(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return id != s.pod || id == ""
}

// ensureSandbox returns the sandbox and makes it when there is none.
func (s *Service) ensureSandbox(bundle string) (*sandbox.Sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sandbox != nil && !s.sandbox.Spent() {
		return s.sandbox, nil
	}
	sb, err := s.build(bundle)
	if err != nil {
		return nil, err
	}
	s.sandbox = sb
	return sb, nil
}

func (s *Service) remember(id, execID string, u URIs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdio == nil {
		s.stdio = make(map[processKey]URIs)
	}
	s.stdio[processKey{id, execID}] = u
}

func (s *Service) recall(id, execID string) URIs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stdio[processKey{id, execID}]
}

func (s *Service) forget(id, execID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.stdio, processKey{id, execID})
	if execID == "" {
		s.creating.Lock()
		defer s.creating.Unlock()
		delete(s.creations, id)
	}
}

func (s *Service) current() *sandbox.Sandbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sandbox
}

func (s *Service) container(id string) (*sandbox.Container, error) {
	sb := s.current()
	if sb == nil {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	return sb.Container(id)
}

func (s *Service) process(id, execID string) (*sandbox.Process, error) {
	c, err := s.container(id)
	if err != nil {
		return nil, err
	}
	return c.Process(execID)
}

// Start runs a created process.
func (s *Service) Start(ctx context.Context, r *task.StartRequest) (*task.StartResponse, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	p, err := c.Process(r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.ExecID == "" {
		err = s.startInit(ctx, c)
	} else {
		err = s.startExec(ctx, c, p, r.ExecID)
	}
	if err != nil {
		return nil, err
	}
	s.proxy(r.ID, r.ExecID).resize(p)
	return &task.StartResponse{Pid: s.pid(c, p)}, nil
}

// Delete removes an ended or never started process.
func (s *Service) Delete(ctx context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	p, err := c.Process(r.ExecID)
	if err != nil {
		return nil, err
	}
	pid := s.pid(c, p)
	if r.ExecID == "" {
		err = s.deleteInit(ctx, c)
	} else {
		err = p.Delete(ctx)
	}
	if err != nil {
		return nil, err
	}
	s.forget(r.ID, r.ExecID)
	status, at, _ := p.Exit()
	return &task.DeleteResponse{Pid: pid, ExitStatus: status, ExitedAt: timestamppb.New(at)}, nil
}

// Exec adds a process to a running container.
func (s *Service) Exec(ctx context.Context, r *task.ExecProcessRequest) (*emptypb.Empty, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	stdio, standing, err := s.openStreams(ctx, URIs{
		Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal,
		Namespace: s.namespace, Container: r.ID,
	})
	if err != nil {
		return nil, err
	}
	if err := c.Exec(ctx, r.ExecID, r.Terminal, stdio, r.Spec); err != nil {
		logDropped(standing.drop())
		return nil, err
	}
	if p, err := c.Process(r.ExecID); err == nil {
		s.represent(processKey{r.ID, r.ExecID}, p, standing)
	}
	s.remember(r.ID, r.ExecID, URIs{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr})
	s.send(topicExecAdded, &events.TaskExecAdded{ContainerID: r.ID, ExecID: r.ExecID})
	return empty, nil
}

// statuses translates states to containerd's.
var statuses = map[sandbox.State]tasktypes.Status{
	sandbox.Created: tasktypes.Status_CREATED,
	sandbox.Running: tasktypes.Status_RUNNING,
	sandbox.Paused:  tasktypes.Status_PAUSED,
	sandbox.Stopped: tasktypes.Status_STOPPED,
}

// State reports where a process is in its life.
func (s *Service) State(_ context.Context, r *task.StateRequest) (*task.StateResponse, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	p, err := c.Process(r.ExecID)
	if err != nil {
		return nil, err
	}
	uris := s.recall(r.ID, r.ExecID)
	resp := &task.StateResponse{
		ID: r.ID, ExecID: r.ExecID, Bundle: c.Bundle, Pid: s.pid(c, p),
		Status: statuses[p.State()], Terminal: p.Terminal,
		Stdin: uris.Stdin, Stdout: uris.Stdout, Stderr: uris.Stderr,
	}
	if p.State() == sandbox.Stopped {
		status, at, _ := p.Exit()
		resp.ExitStatus, resp.ExitedAt = status, timestamppb.New(at)
	}
	return resp, nil
}

// Wait answers when the process has exited and its output was handed over.
func (s *Service) Wait(ctx context.Context, r *task.WaitRequest) (*task.WaitResponse, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.Exited():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l := s.life(r.ID); l != nil && r.ExecID == "" {
		// Callers may look whether the process is gone.
		l.standIn.Kill()
	}
	status, at, _ := p.Exit()
	return &task.WaitResponse{ExitStatus: status, ExitedAt: timestamppb.New(at)}, nil
}

// Kill sends a signal to a process, or with All to the whole container.
func (s *Service) Kill(ctx context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	return empty, p.Kill(ctx, r.Signal, r.All)
}

// Pids lists a container's processes by their ids in the guest.
func (s *Service) Pids(ctx context.Context, r *task.PidsRequest) (*task.PidsResponse, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	resp, err := c.Pids(ctx)
	if err != nil {
		return nil, err
	}
	if l := s.life(r.ID); l != nil {
		s.show(c, l, resp.Processes)
	}
	if x := s.proxy(r.ID, ""); x != nil {
		resp.Processes = x.show(c, s.nothing, resp.Processes)
	}
	return resp, report(c, resp, s.standInPID(r.ID))
}

// Pause freezes a container.
func (s *Service) Pause(ctx context.Context, r *task.PauseRequest) (*emptypb.Empty, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	if err := c.Pause(ctx); err != nil {
		return nil, err
	}
	s.send(topicPaused, &events.TaskPaused{ContainerID: r.ID})
	return empty, nil
}

// Resume lets a paused container go on.
func (s *Service) Resume(ctx context.Context, r *task.ResumeRequest) (*emptypb.Empty, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	if err := c.Resume(ctx); err != nil {
		return nil, err
	}
	s.send(topicResumed, &events.TaskResumed{ContainerID: r.ID})
	return empty, nil
}

// Checkpoint is not offered.
func (s *Service) Checkpoint(_ context.Context, r *task.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, fmt.Errorf("checkpoint container %s: %w", r.ID, errdefs.ErrNotImplemented)
}

// ResizePty sets the size of a process's terminal.
func (s *Service) ResizePty(ctx context.Context, r *task.ResizePtyRequest) (*emptypb.Empty, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	return empty, p.Resize(ctx, r.Width, r.Height)
}

// CloseIO ends a process's standard input.
func (s *Service) CloseIO(_ context.Context, r *task.CloseIORequest) (*emptypb.Empty, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.Stdin {
		p.CloseStdin()
	}
	return empty, nil
}

// Update changes a container's resource limits.
func (s *Service) Update(ctx context.Context, r *task.UpdateTaskRequest) (*emptypb.Empty, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	return empty, c.Update(ctx, r)
}

// Stats returns a container's cgroup v2 metrics.
func (s *Service) Stats(ctx context.Context, r *task.StatsRequest) (*task.StatsResponse, error) {
	c, err := s.container(r.ID)
	if err != nil {
		return nil, err
	}
	return c.Stats(ctx)
}

// Connect reports the sandbox process and the container's init.
func (s *Service) Connect(_ context.Context, r *task.ConnectRequest) (*task.ConnectResponse, error) {
	resp := &task.ConnectResponse{ShimPid: uint32(os.Getpid())}
	if c, err := s.container(r.ID); err == nil {
		resp.TaskPid = s.pid(c, c.Init())
	}
	return resp, nil
}

// Shutdown ends the sandbox process, but under a daemon not as long as there
// is a task. For a container that has joined another one it ends only that.
func (s *Service) Shutdown(ctx context.Context, r *task.ShutdownRequest) (*emptypb.Empty, error) {
	if s.owner != "" && r.ID != s.owner {
		return empty, s.endJoined(ctx, r.ID)
	}
	if sb := s.current(); s.publish != nil && sb != nil && sb.Containers() > 0 {
		return empty, nil
	}
	s.shutdown()
	return empty, nil
}
