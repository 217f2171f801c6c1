package shim

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"dougong.dev/dougong/internal/child"
	"dougong.dev/dougong/internal/sandbox"
)

// Topics of events, as containerd names them.
const (
	topicCreate      = "/tasks/create"
	topicStart       = "/tasks/start"
	topicOOM         = "/tasks/oom"
	topicExit        = "/tasks/exit"
	topicDelete      = "/tasks/delete"
	topicExecAdded   = "/tasks/exec-added"
	topicExecStarted = "/tasks/exec-started"
	topicPaused      = "/tasks/paused"
	topicResumed     = "/tasks/resumed"
)

// life keeps the events of one container in order: a start before its exit,
// exits of execs before that of the init.
type life struct {
	id string
	// standIn is the container's process on the host.
	standIn *child.Process
	// starting is held while the init is started and the event sent.
	starting sync.Mutex
	// over is closed when the exit of the init was sent.
	over chan struct{}

	mu    sync.Mutex
	ended bool
	execs sync.WaitGroup

	showing sync.Mutex
	shown   []*child.Process
}

func newLife(id string, s *child.Process) *life {
	return &life{id: id, standIn: s, over: make(chan struct{})}
}

// follow kills the container with its stand-in, so that the two are one to
// those who see only the stand-in.
func (l *life) follow(c *sandbox.Container) {
	select {
	case <-l.standIn.Done():
		if err := c.Init().Kill(context.Background(), uint32(unix.SIGKILL), false); err != nil {
			slog.Warn("kill container whose stand-in was killed", "container", l.id, "error", err)
		}
	case <-c.Init().Exited():
		l.standIn.Kill()
	}
	l.hide()
}

// beginExec registers an exec that is about to start; execs.Done undoes it.
func (l *life) beginExec() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return fmt.Errorf("container %s is stopped: %w", l.id, errdefs.ErrFailedPrecondition)
	}
	l.execs.Add(1)
	return nil
}

// end forbids new execs and waits for those that run.
func (l *life) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.execs.Wait()
}

// watchInit sends the exit of a container's init when all that must come
// before it was sent.
func (s *Service) watchInit(c *sandbox.Container, l *life) {
	oom := make(chan struct{})
	go func() {
		defer close(oom)
		s.watchOOM(c)
	}()
	l.follow(c)
	<-c.Init().Exited()
	l.end()
	<-oom
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if c.Owns() {
			// Nothing can run in this sandbox any more.
			s.current().Stop(context.Background())
		}
	}()
	l.starting.Lock()
	s.sendExit(c, c.ID, c.Init())
	l.starting.Unlock()
	close(l.over)
	<-stopped
}

// watchOOM sends an event whenever the kernel of the guest had to kill for
// memory, until the container has ended.
func (s *Service) watchOOM(c *sandbox.Container) {
	for range c.OOMs() {
		s.send(topicOOM, &events.TaskOOM{ContainerID: c.ID})
	}
}

func (s *Service) sendExit(c *sandbox.Container, id string, p *sandbox.Process) {
	status, at, _ := p.Exit()
	s.send(topicExit, &events.TaskExit{
		ContainerID: c.ID, ID: id, Pid: s.pid(c, p), ExitStatus: status, ExitedAt: timestamppb.New(at),
	})
}
