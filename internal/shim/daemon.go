package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/sandbox"
)

// Daemon is a sandbox process under containerd: it serves tasks until
// containerd asks for its end, and outlives containerd's restarts.
type Daemon struct {
	// Namespace and ID name the sandbox in containerd.
	Namespace, ID string
	// Bundle is the directory that containerd made for the sandbox. All that
	// the sandbox keeps on disk is below it and goes with it.
	Bundle string
	Config config.Config
	// Listener is where the Task service is served.
	Listener net.Listener
	// Mounts is the mount namespace of the daemon, nil for this process's own: what
	// the containers of a pod are made of is mounted there after this process has
	// got its own.
	Mounts *os.File
	// Events is the address of containerd's ttrpc server; without one no
	// events are sent.
	Events string

	service *Service
	ended   chan struct{}
	once    sync.Once
}

// Run serves until Shutdown is called, or the process is told to end.
func (d *Daemon) Run(ctx context.Context) error {
	// Mounts of the host may come in later; ours must never go out.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separate the sandbox's mounts from the host's: %w", err)
	}
	// Nobody reads the log while containerd is away, which is no reason to end.
	signal.Ignore(unix.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := os.MkdirAll(stateDir(d.Bundle), 0o700); err != nil {
		return fmt.Errorf("make directory of the sandbox: %w", err)
	}
	if err := writeTrace(d.Bundle); err != nil {
		return err
	}
	d.ended = make(chan struct{})
	events := newPublisher(d.Namespace, d.Events)
	d.service = &Service{
		build: d.build, publish: events.publish, namespace: d.Namespace, mounts: d.Mounts,
		shutdown: func() { d.once.Do(func() { close(d.ended) }) },
	}
	calls := &callers{needed: d.service.busy, abandoned: d.service.shutdown, answers: &answers{}}
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(intercept), ttrpc.WithServerHandshaker(calls))
	if err != nil {
		return fmt.Errorf("make server: %w", err)
	}
	Register(server, d.service)
	sandboxapi.RegisterTTRPCSandboxService(server, &SandboxService{tasks: d.service})
	calls.watch(firstCall)
	defer calls.stop()
	go func() {
		if err := server.Serve(ctx, d.Listener); err != nil && !errors.Is(err, ttrpc.ErrServerClosed) {
			slog.Error("serve Task", "error", err)
		}
	}()
	select {
	case <-d.ended:
	case <-ctx.Done():
	}
	d.leave(server, calls, events)
	return nil
}

// leave ends what is left and lets the last answers and events out.
func (d *Daemon) leave(server *ttrpc.Server, calls *callers, events *publisher) {
	// As long as this process listens, nobody else's socket can be there.
	if err := os.Remove(d.Listener.Addr().String()); err != nil {
		slog.Debug("remove socket", "error", err)
	}
	if sb := d.service.current(); sb != nil {
		sb.Stop(context.Background())
	}
	d.service.watches.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	events.flush(ctx)
	events.close()
	// Clients that stay connected are cut off.
	calls.answers.answered(ctx)
	calls.hangUp(ctx, hangUpTime)
	flush(ctx, server, calls.answers)
	_ = server.Close()
	if err := removeTrace(d.Bundle); err != nil {
		slog.Debug("clean up", "error", err)
	}
}

func (d *Daemon) build(bundle string) (*sandbox.Sandbox, error) {
	cfg := d.Config
	// The network of a container is containerd's to give, by a network
	// namespace; the VMM's own is there only for a container that asks for it.
	cfg.Network.Mode = namespaceNetwork
	opts, err := Options(cfg, d.ID, stateDir(d.Bundle), bundle)
	if err != nil {
		return nil, err
	}
	return sandbox.New(opts)
}

// stateDir is the sandbox's own directory in its bundle.
func stateDir(bundle string) string { return filepath.Join(bundle, "dougong") }
