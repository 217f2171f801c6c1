// Package agent is the guest's side of the conversation with the host: it
// opens the line, serves the Task and Agent services and says when they are
// ready.
//
// It owns the process's life and the order of shutdown. What the services do
// is in the packages beside it.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	api "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/guest/bundle"
	"dougong.dev/dougong/internal/guest/container"
	"dougong.dev/dougong/internal/guest/device"
	"dougong.dev/dougong/internal/guest/forward"
	"dougong.dev/dougong/internal/guest/initd"
	"dougong.dev/dougong/internal/guest/mount"
	"dougong.dev/dougong/internal/guest/resolver"
	"dougong.dev/dougong/internal/guest/stamp"
	"dougong.dev/dougong/internal/guest/volume"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/transport"
)

const (
	runDir     = "/run/dougong"
	crunDir    = runDir + "/crun"
	tempDir    = runDir + "/tmp"
	crunBinary = "/usr/bin/crun"

	// memoryLimit is where the collector starts to work harder. The guest's
	// memory is its containers'.
	memoryLimit = 16 << 20
	// answerTime bounds what the answer to Shutdown gets to leave the machine.
	answerTime = 200 * time.Millisecond
	// quietTime is how long nothing is sent when the answers are out.
	quietTime = 5 * time.Millisecond
	// readyTimeout is how long the host may take to hear the Hello.
	readyTimeout = 2 * time.Minute
)

// errHostGone says that the line has ended without a Shutdown.
var errHostGone = errors.New("the host has closed the line")

// Run serves the host until it asks for a shutdown; version is what it says of
// itself. When it returns nil, file systems are unmounted and the power can go.
func Run(version string) error {
	boot := stamp.Inherited()
	boot.Add("agent")
	line := readCommandLine("/proc/cmdline")
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: line.level()})))
	debug.SetMemoryLimit(memoryLimit)
	for _, dir := range []string{oci.GuestBundles, crunDir, tempDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("prepare agent: %w", err)
		}
	}
	// The runtime's sockets and process files must not depend on a /tmp.
	if err := os.Setenv("TMPDIR", tempDir); err != nil {
		return fmt.Errorf("prepare agent: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	finder := device.System()
	mounter := mount.New(finder)
	p := parts{
		version: version,
		boot:    boot,
		runtime: container.Config{Binary: crunBinary, Args: []string{"--cgroup-manager=cgroupfs"}, Root: crunDir},
		mounter: mounter,
		devices: finder,
		bundles: bundle.NewStore(oci.GuestBundles, mounter),
		volumes: volume.NewStore(oci.GuestVolumes),
	}
	p.bundles.Prepare = prepareFor
	if line.saved() {
		if err := errors.Join(rehearse(ctx, p), p.prepareNetwork(ctx, line)); err != nil {
			// Clones are slower without, and no worse.
			slog.Warn("before the machine is saved", "error", err)
		} else {
			slog.Info("ready to be saved, a container was rehearsed")
		}
	}
	session, offer, err := connect(ctx, line, finder)
	if err != nil {
		return fmt.Errorf("connect to host: %w", err)
	}
	defer func() { _ = session.Close() }()
	p.offer = offer
	return serve(ctx, session, p)
}

// prepareFor loads what only a container can use that has the right to.
func prepareFor(p *specs.Process) error {
	if p.Capabilities == nil || !slices.Contains(p.Capabilities.Bounding, "CAP_NET_ADMIN") {
		return nil
	}
	return initd.Demand("bridge")
}

// parts is what the services work with.
type parts struct {
	version string
	// boot has the steps of the start up to the agent's own.
	boot stamp.List
	// offer tells the host that the guest is up, and returns when it listens.
	// Before that it may want rehearsals, which play serves.
	offer func(play func(*transport.Rehearsal) error) error
	// tasks has reaped the orphans of this process since an earlier session,
	// nil where this is the first.
	tasks *container.Service
	// network is what the network was configured as before the machine was
	// saved, nil where it was not.
	network *api.ConfigureRequest
	runtime container.Config
	mounter *mount.Mounter
	devices *device.Finder
	bundles *bundle.Store
	volumes *volume.Store
}

// serve answers the host until a Shutdown (nil) or the end of the session.
func serve(ctx context.Context, session transport.Session, p parts) error {
	listener, err := session.Listen(transport.PortStream)
	if err != nil {
		return err
	}
	streams := transport.NewStreams(listener)
	defer func() { _ = streams.Close() }()
	if p.tasks == nil {
		p.tasks, err = container.NewService(ctx, p.runtime, streams)
	} else {
		p.tasks = p.tasks.With(streams)
	}
	if err != nil {
		return err
	}
	if listener, err = session.Listen(transport.PortForward); err != nil {
		return err
	}
	forwards := forward.Serve(listener)
	defer func() { _ = forwards.Close() }()
	if listener, err = session.Listen(transport.PortResolver); err != nil {
		return err
	}
	questions := resolver.Serve(listener, resolver.Address)
	defer func() { _ = questions.Close() }()
	listener, err = session.Listen(transport.PortControl)
	if err != nil {
		return err
	}
	control := &watched{Listener: listener, wrote: make(chan struct{}, 1)}
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(intercept))
	if err != nil {
		return fmt.Errorf("make server: %w", err)
	}
	vm := newService(p, control.forget)
	task.RegisterTTRPCTaskService(server, p.tasks)
	api.RegisterAgentService(server, vm)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, control) }()
	defer func() { _ = server.Close() }()
	if err := introduce(ctx, session, p); err != nil {
		return err
	}
	select {
	case <-vm.stopped:
		control.settle(session.Done())
		return nil
	case <-session.Done():
		return errHostGone
	case err := <-served:
		// The end of the session ends its listener too, now and then first.
		if errors.Is(err, transport.ErrClosed) {
			return errHostGone
		}
		return fmt.Errorf("serve host: %w", err)
	}
}

// introduce offers the line to the host and says hello. A machine is saved
// while the line is on offer, and each of its clones goes on from there: all
// that can be done before is done before.
func introduce(ctx context.Context, session transport.Session, p parts) error {
	message, err := hello(p.version, p.boot).Encode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	said := make(chan error, 1)
	// It is on its way up to the line, and waits there.
	go func() { said <- sayHello(ctx, session, message) }()
	if err := p.offer(func(r *transport.Rehearsal) error { return play(ctx, r, p) }); err != nil {
		return err
	}
	limit := time.AfterFunc(readyTimeout, cancel)
	defer limit.Stop()
	return <-said
}

// play serves a rehearsal that the host directs.
func play(ctx context.Context, r *transport.Rehearsal, p parts) error {
	p.offer = taken
	session := transport.NewGuest(r)
	err := serve(ctx, session, p)
	_ = session.Close()
	// The machine waits for a while now, and then has better to do.
	debug.FreeOSMemory()
	if errors.Is(err, errHostGone) {
		return nil
	}
	return err
}

// taken is the offer of a line that was never still.
func taken(func(*transport.Rehearsal) error) error { return nil }

func sayHello(ctx context.Context, session transport.Session, message []byte) error {
	conn, err := session.Dial(ctx, transport.PortReady)
	if err != nil {
		return fmt.Errorf("tell the host that the guest is ready: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(message); err != nil {
		return fmt.Errorf("tell the host that the guest is ready: %w", err)
	}
	return nil
}
