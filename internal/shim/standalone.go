package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/handover"
	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/sandbox"
)

// Standalone is a sandbox process without a daemon above it: started by the
// command line, it serves one container and ends with it.
type Standalone struct {
	Dir    record.Dir
	Config config.Config
	// Listener is where the Task service is served.
	Listener net.Listener
	// Lease ends the sandbox when its other end is closed, unless a byte came
	// through first: then the sandbox lives until its container ends.
	Lease io.Reader
	// Files, when set, is where commands hand over the standard streams of
	// processes, and the stand-ins of those.
	Files net.Listener

	service *Service
	// ended is closed when the sandbox has stopped and its exit is on record.
	ended chan struct{}
	once  sync.Once
	// joined are the goroutines that follow containers which have joined ours.
	joined sync.WaitGroup
}

// flushTimeout bounds how long the last answers may take to leave.
const flushTimeout = 2 * time.Second

// Run serves until the sandbox has ended and nobody holds it any more.
func (s *Standalone) Run(ctx context.Context) error {
	// Mounts of the host may come in later; ours must never go out.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separate the sandbox's mounts from the host's: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	s.ended = make(chan struct{})
	s.service = &Service{owner: s.Dir.ID, build: s.build, onCreate: s.watch, onStart: s.started, shutdown: func() { s.end(nil) }}
	owed := &answers{}
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(intercept), ttrpc.WithServerHandshaker(owed))
	if err != nil {
		return fmt.Errorf("make server: %w", err)
	}
	Register(server, s.service)
	if s.Files != nil {
		s.service.handed = new(handover.Desk)
		s.service.nothing = s.Dir.Empty()
		if err := os.Mkdir(s.service.nothing, 0o500); err != nil {
			return fmt.Errorf("make an empty directory: %w", err)
		}
		go s.service.handed.Serve(s.Files)
		defer s.Files.Close()
	}
	go s.serve(ctx, server)
	s.hold(ctx)
	s.end(nil)
	s.service.watches.Wait()
	return s.leave(server, owed)
}

func (s *Standalone) serve(ctx context.Context, server *ttrpc.Server) {
	if err := server.Serve(ctx, s.Listener); err != nil && !errors.Is(err, ttrpc.ErrServerClosed) {
		slog.Error("serve Task", "error", err)
	}
}

// hold returns when nobody needs this process any more.
func (s *Standalone) hold(ctx context.Context) {
	released := make(chan bool, 1)
	go func() {
		n, _ := s.Lease.Read(make([]byte, 1))
		released <- n == 1
	}()
	select {
	case <-ctx.Done():
	case detached := <-released:
		if !detached {
			return
		}
		select {
		case <-s.ended:
		case <-ctx.Done():
		}
	}
}

// leave lets the last answers out and removes what is to be removed.
func (s *Standalone) leave(server *ttrpc.Server, owed *answers) error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	// Clients that stay connected are cut off.
	flush(ctx, server, owed)
	_ = server.Close()
	rec, err := s.Dir.Record()
	if err == nil && !rec.AutoRemove {
		_ = os.Remove(s.Dir.Socket())
		_ = os.Remove(s.Dir.FilesSocket())
		return nil
	}
	return s.Dir.Remove()
}

// flushLook is how long flush waits between two looks.
const flushLook = 2 * time.Millisecond

// flush lets the answers to all calls out, and closes what is idle then. ttrpc
// looks at its connections when Shutdown is called, and after that only every
// 200 ms, which would be most of the end of a container: so it is called again
// and again.
func flush(ctx context.Context, server *ttrpc.Server, owed *answers) {
	owed.answered(ctx)
	for {
		look, cancel := context.WithTimeout(ctx, flushLook)
		err := server.Shutdown(look)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return
		}
	}
}

func (s *Standalone) build(bundle string) (*sandbox.Sandbox, error) {
	cfg := s.Config
	if s.Files != nil {
		// Whoever runs the OCI commands gives the network, by a namespace.
		cfg.Network.Mode = namespaceNetwork
	}
	opts, err := Options(cfg, s.Dir.ID, s.Dir.Path(), bundle)
	if err != nil {
		return nil, err
	}
	opts.Joins = s.Files != nil
	return sandbox.New(opts)
}

func (s *Standalone) started(c *sandbox.Container) {
	if c.ID != s.Dir.ID {
		s.markStarted(c.ID)
		return
	}
	if err := s.Dir.WriteStart(s.service.current().Timeline()); err != nil {
		slog.Warn("note the phases of the start", "error", err)
	}
	if err := s.Dir.MarkStarted(time.Now()); err != nil {
		slog.Warn("note the start", "error", err)
	}
}

// watch ends the sandbox with its container.
func (s *Standalone) watch(c *sandbox.Container) {
	if c.ID != s.Dir.ID {
		s.joined.Go(func() { s.follow(c) })
		return
	}
	go func() {
		<-c.Init().Exited()
		s.end(c.Init())
	}()
}

// end stops the sandbox and records how its container ended.
func (s *Standalone) end(init *sandbox.Process) {
	s.once.Do(func() {
		exit := record.Exit{Status: 137}
		sb := s.service.current()
		if sb != nil {
			sb.Stop(context.Background())
			s.joined.Wait()
			if c, err := sb.Container(s.Dir.ID); err == nil && c.Init().State() != sandbox.Created {
				<-c.Init().Exited()
				init = c.Init()
			}
		}
		if init != nil {
			status, at, cause := init.Exit()
			exit = record.Exit{Status: int(status), Time: at}
			if cause != nil {
				exit.Error = cause.Error()
			}
		}
		if exit.Time.IsZero() {
			exit.Time = time.Now()
		}
		if err := s.Dir.WriteExit(exit); err != nil {
			slog.Error("note the exit", "error", err)
		}
		s.service.tellInit(s.Dir.ID, uint32(exit.Status))
		close(s.ended)
	})
	<-s.ended
}

// Inherit takes the descriptors that a standalone sandbox process is started
// with: 3 is the listener, 4 its lock, which it only holds, 5 the lease, and
// with files 6 the listener for those.
func (s *Standalone) Inherit(files bool) error {
	for fd := 3; fd <= 6; fd++ {
		// None of them is for our own children.
		syscall.CloseOnExec(fd)
	}
	var err error
	if s.Listener, err = inheritListener(3, "task.sock"); err != nil {
		return err
	}
	s.Lease = os.NewFile(5, "lease")
	if files {
		s.Files, err = inheritListener(6, "files.sock")
	}
	return err
}

func inheritListener(fd uintptr, name string) (net.Listener, error) {
	f := os.NewFile(fd, name)
	defer f.Close()
	listener, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is not a listening socket; this mode is for dougong's own use: %w", fd, err)
	}
	return listener, nil
}
