package shim

import (
	"context"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/runtime/task/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"dougong.dev/dougong/internal/sandbox"
)

// identified is an event about a container.
type identified interface {
	proto.Message
	GetContainerID() string
}

// send publishes an event where there is anybody to publish to.
func (s *Service) send(topic string, event identified) {
	if s.publish != nil && s.announced(event.GetContainerID()) {
		s.publish(topic, event)
	}
}

// pid is what callers learn as the id of a process: that of the container's
// stand-in, or of an exec in the guest.
func (s *Service) pid(c *sandbox.Container, p *sandbox.Process) uint32 {
	if pid := s.standInPID(c.ID); pid != 0 && p == c.Init() {
		return pid
	}
	if x := s.proxy(c.ID, p.ExecID()); x != nil {
		return uint32(x.pid)
	}
	return p.PID()
}

// standInPID is the process id of a container on the host, 0 where nothing
// stands for it.
func (s *Service) standInPID(id string) uint32 {
	if l := s.life(id); l != nil {
		return uint32(l.standIn.PID())
	}
	if x := s.proxy(id, ""); x != nil {
		return uint32(x.pid)
	}
	return 0
}

// created announces a container and begins to watch it.
func (s *Service) created(c *sandbox.Container, r *task.CreateTaskRequest) error {
	if s.publish == nil {
		return nil
	}
	standIn, err := s.standFor(c)
	if err != nil {
		return err
	}
	l := newLife(c.ID, standIn)
	s.mu.Lock()
	if s.lives == nil {
		s.lives = make(map[string]*life)
	}
	s.lives[c.ID] = l
	s.mu.Unlock()
	s.send(topicCreate, &events.TaskCreate{
		ContainerID: r.ID, Bundle: r.Bundle, Rootfs: r.Rootfs,
		IO:  &events.TaskIO{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
		Pid: s.pid(c, c.Init()),
	})
	s.watches.Go(func() { s.watchInit(c, l) })
	return nil
}

// life returns the order of events of a container, nil without a daemon.
func (s *Service) life(id string) *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lives[id]
}

func (s *Service) startInit(ctx context.Context, c *sandbox.Container) error {
	if l := s.life(c.ID); l != nil {
		l.starting.Lock()
		defer l.starting.Unlock()
	}
	if _, err := c.Init().Start(ctx); err != nil {
		return err
	}
	s.send(topicStart, &events.TaskStart{ContainerID: c.ID, Pid: s.pid(c, c.Init())})
	if s.onStart != nil {
		s.onStart(c)
	}
	return nil
}

func (s *Service) startExec(ctx context.Context, c *sandbox.Container, p *sandbox.Process, execID string) error {
	l := s.life(c.ID)
	if l == nil {
		_, err := p.Start(ctx)
		return err
	}
	if err := l.beginExec(); err != nil {
		return err
	}
	if _, err := p.Start(ctx); err != nil {
		l.execs.Done()
		return err
	}
	s.send(topicExecStarted, &events.TaskExecStarted{ContainerID: c.ID, ExecID: execID, Pid: s.pid(c, p)})
	s.watches.Go(func() {
		defer l.execs.Done()
		<-p.Exited()
		s.sendExit(c, execID, p)
	})
	return nil
}

// deleteInit removes a container. Under a daemon a sandbox that is its own ends
// first, so that whatever the container was made of is free when the caller has
// its answer.
func (s *Service) deleteInit(ctx context.Context, c *sandbox.Container) error {
	l := s.life(c.ID)
	if l == nil {
		return c.Init().Delete(ctx)
	}
	if err := c.Init().Deletable(); err != nil {
		return err
	}
	if c.Owns() {
		s.current().Stop(ctx)
	}
	if err := c.Init().Delete(ctx); err != nil {
		return err
	}
	select {
	case <-l.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	status, at, _ := c.Init().Exit()
	s.send(topicDelete, &events.TaskDelete{
		ContainerID: c.ID, Pid: s.pid(c, c.Init()), ExitStatus: status, ExitedAt: timestamppb.New(at),
	})
	s.mu.Lock()
	delete(s.lives, c.ID)
	s.mu.Unlock()
	return nil
}
