package ocirun

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/handover"
	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/standin"
)

// Runtime makes containers below one state directory.
type Runtime struct {
	Engine *engine.Engine
	// Prepare, when set, starts what other containers use too.
	Prepare func()
}

// CreateOptions say what a container is made of.
type CreateOptions struct {
	ID, Bundle string
	// ConsoleSocket is where the terminal goes, PIDFile where the process id.
	ConsoleSocket, PIDFile string
	// Stdin, Stdout and Stderr become the container's, if it has no terminal.
	Stdin, Stdout, Stderr *os.File
}

// Container is one that was just made.
type Container struct {
	Sandbox *engine.Sandbox
	standIn *standin.Left
}

// Create makes a container, which waits for its start. When it fails, nothing
// of it is left.
func (r *Runtime) Create(ctx context.Context, o CreateOptions) (*Container, error) {
	if err := keepFiles(); err != nil {
		return nil, err
	}
	bundle, spec, err := readBundle(o.Bundle)
	if err != nil {
		return nil, err
	}
	if err := checkTerminal(spec.Process.Terminal, o.ConsoleSocket); err != nil {
		return nil, err
	}
	launch := engine.Launch{Record: record.Record{
		ID: o.ID, Name: o.ID, Command: spec.Process.Args, Created: time.Now(), Terminal: spec.Process.Terminal,
		Given: bundle, Image: filepath.Base(bundle), StopSignal: "SIGTERM",
	}}
	sandbox, err := r.prepare(launch, spec)
	if err != nil {
		return nil, err
	}
	c := &Container{Sandbox: sandbox}
	if err := c.create(ctx, r.Engine.ShimPath, launch, spec, o); err != nil {
		c.discard(ctx)
		return nil, denied(err)
	}
	return c, nil
}

// denied says "permission denied" of a command that cannot be executed for
// whatever reason: callers of OCI runtimes look for these words.
func denied(err error) error {
	if errdefs.IsPermissionDenied(err) && !strings.Contains(err.Error(), "permission denied") {
		return fmt.Errorf("%w: permission denied", err)
	}
	return err
}

// keepFiles keeps the caller's descriptors from our children. Whoever waits
// for the end of one would wait for the container's.
func keepFiles() error {
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep descriptors from children: %w", err)
	}
	return nil
}

// create makes everything that a container has beside its sandbox process.
func (c *Container) create(ctx context.Context, program string, launch engine.Launch, spec *specs.Spec, o CreateOptions) error {
	console, err := openConsole(o.ConsoleSocket)
	if err != nil {
		return err
	}
	defer console.close()
	stand := standin.Of(spec)
	stand.Root, stand.Mounts = rootOf(launch.Record.Given, spec), mountsOf(launch.Record.Given, spec)
	stand.Apart, stand.ReadOnly, stand.Hostname, stand.Users = true, spec.Root.Readonly, spec.Hostname, standin.UsersOf(spec)
	if c.standIn, err = stand.Leave(program, console.slave()); err != nil {
		return err
	}
	if err := c.Sandbox.Dir.WriteProcess(c.standIn.PID()); err != nil {
		return err
	}
	given := streams{stdin: o.Stdin, stdout: o.Stdout, stderr: o.Stderr}
	if given.lock = c.Sandbox.Lock(); given.lock != nil {
		// The sandbox process has been there before our mounts were.
		if given.mounts, err = os.Open("/proc/self/ns/mnt"); err != nil {
			return fmt.Errorf("open mount namespace: %w", err)
		}
		defer given.mounts.Close()
	}
	files, err := hand(c.Sandbox.Dir, console, c.standIn, given)
	if err != nil {
		return err
	}
	defer files.Close()
	launch.Stdio = files.uris
	if err := c.Sandbox.Create(ctx, launch); err != nil {
		return err
	}
	if err := console.send(); err != nil {
		return err
	}
	return writePID(o.PIDFile, c.standIn.PID())
}

// discard takes back what create has made.
func (c *Container) discard(ctx context.Context) {
	c.Sandbox.End(ctx, true)
	if c.standIn != nil {
		c.standIn.Kill()
	}
}

// PID is that of the process which stands for the container.
func (c *Container) PID() int { return c.standIn.PID() }

// Leave lets the container live on without this process.
func (c *Container) Leave() error { return c.Sandbox.Detach() }

// readBundle reads the spec of a bundle, as far as the host needs it.
func readBundle(path string) (string, *specs.Spec, error) {
	bundle, err := filepath.Abs(path)
	if err != nil {
		return "", nil, fmt.Errorf("find bundle %s: %w", path, err)
	}
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return "", nil, fmt.Errorf("read OCI spec: %w; 'dougong spec' writes one", err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(data, spec); err != nil {
		return "", nil, fmt.Errorf("read OCI spec %s/config.json: %w: %w", bundle, err, errdefs.ErrInvalidArgument)
	}
	switch {
	case spec.Process == nil:
		return "", nil, fmt.Errorf("OCI spec %s/config.json has no process: %w", bundle, errdefs.ErrInvalidArgument)
	case spec.Root == nil || spec.Root.Path == "":
		return "", nil, fmt.Errorf("OCI spec %s/config.json has no root.path: %w", bundle, errdefs.ErrInvalidArgument)
	}
	if info, err := os.Stat(rootOf(bundle, spec)); err != nil || !info.IsDir() {
		return "", nil, fmt.Errorf("root file system %s (root.path of %s/config.json) is no directory: %w", rootOf(bundle, spec), bundle, errdefs.ErrInvalidArgument)
	}
	return bundle, spec, nil
}

func rootOf(bundle string, spec *specs.Spec) string {
	if filepath.IsAbs(spec.Root.Path) {
		return spec.Root.Path
	}
	return filepath.Join(bundle, spec.Root.Path)
}

// mountsOf are the binds of the host's directories and files.
func mountsOf(bundle string, spec *specs.Spec) []standin.Mount {
	var mounts []standin.Mount
	for _, m := range spec.Mounts {
		if m.Type != "bind" && !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
			continue
		}
		if !filepath.IsAbs(m.Source) {
			m.Source = filepath.Join(bundle, m.Source)
		}
		mounts = append(mounts, standin.Mount{Source: m.Source, Target: m.Destination, ReadOnly: slices.Contains(m.Options, "ro")})
	}
	return mounts
}

// checkTerminal compares what the spec and the caller say of a terminal.
func checkTerminal(terminal bool, socket string) error {
	switch {
	case terminal && socket == "":
		return fmt.Errorf("the process has a terminal (process.terminal): give --console-socket, to which it is sent: %w", errdefs.ErrInvalidArgument)
	case !terminal && socket != "":
		return fmt.Errorf("--console-socket is given, but the process has no terminal (process.terminal): %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// handed are files that wait at the sandbox process until Close.
type handed struct {
	io.Closer
	uris engine.StdioURIs
}

// streams are standard streams, and of a container that joins others the lock and
// the mount namespace in which its paths are meant.
type streams struct{ stdin, stdout, stderr, lock, mounts *os.File }

// hand gives standard streams, or the terminal, and the line of a stand-in to
// the sandbox process.
func hand(dir record.Dir, c *console, left *standin.Left, s streams) (*handed, error) {
	p := &handover.Package{Files: map[string]*os.File{handover.Lock: s.lock, handover.Mounts: s.mounts}}
	if left != nil {
		p.PID, p.Files[handover.Line] = left.PID(), left.Line
		// The sandbox process has the only end, so that each sees the other's.
		defer left.Line.Close()
	}
	if tty := c.slave(); tty != nil {
		p.Files[handover.Terminal] = tty
	} else {
		p.Files[handover.Stdin], p.Files[handover.Stdout], p.Files[handover.Stderr] = s.stdin, s.stdout, s.stderr
	}
	closer, err := handover.Send(dir.FilesSocket(), p)
	if err != nil {
		return nil, err
	}
	return &handed{Closer: closer, uris: engine.StdioURIs{Stdin: p.URI(), Stdout: p.URI(), Stderr: p.URI()}}, nil
}

// writePID writes a pid file in one step, so that nobody reads half of it.
func writePID(path string, pid int) error {
	if path == "" {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	err := os.WriteFile(tmp, fmt.Append(nil, pid), 0o644)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write pid file: %w", err)
	}
	return nil
}
