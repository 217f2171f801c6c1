package ocirun

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/standin"
)

// ProcessOptions change the process of a container into another one.
type ProcessOptions struct {
	// File is an OCI process that replaces all of it.
	File string
	Args []string
	// Cwd, Env and Caps are added; User is UID[:GID] or a name.
	Cwd, User       string
	Env, Caps       []string
	Groups          []uint
	Terminal        bool
	NoNewPrivileges bool
}

// ExecOptions say how a process is added to a container.
type ExecOptions struct {
	ID      string
	Process *specs.Process
	// ConsoleSocket is where the terminal goes, PIDFile where the process id.
	ConsoleSocket, PIDFile string
	// Detach leaves the process alone once it runs.
	Detach                bool
	Stdin, Stdout, Stderr *os.File
}

// Process puts the process of an exec together.
func (r *Runtime) Process(id string, o ProcessOptions) (*specs.Process, error) {
	if o.File != "" {
		return readProcess(o.File)
	}
	dir, err := r.Engine.Root.Get(id)
	if err != nil {
		return nil, err
	}
	spec, err := engine.Spec(dir)
	if err != nil {
		return nil, err
	}
	return processOf(spec.Process, o)
}

func readProcess(path string) (*specs.Process, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the process: %w", err)
	}
	p := new(specs.Process)
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("read the process %s: %w: %w", path, err, errdefs.ErrInvalidArgument)
	}
	return p, nil
}

func processOf(container *specs.Process, o ProcessOptions) (*specs.Process, error) {
	if len(o.Args) == 0 {
		return nil, fmt.Errorf("no command: give one, or --process: %w", errdefs.ErrInvalidArgument)
	}
	p := *container
	p.Args, p.Terminal = o.Args, o.Terminal
	var err error
	if p.Env, err = oci.MergeEnv(p.Env, o.Env); err != nil {
		return nil, err
	}
	if o.Cwd != "" {
		p.Cwd = o.Cwd
	}
	if o.User != "" {
		p.User = specs.User{Username: o.User, AdditionalGids: p.User.AdditionalGids}
	}
	for _, g := range o.Groups {
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(g))
	}
	p.NoNewPrivileges = p.NoNewPrivileges || o.NoNewPrivileges
	p.Capabilities = withCapabilities(p.Capabilities, o.Caps)
	return &p, nil
}

// withCapabilities adds capabilities to all sets that give rights.
func withCapabilities(has *specs.LinuxCapabilities, add []string) *specs.LinuxCapabilities {
	if len(add) == 0 {
		return has
	}
	c := specs.LinuxCapabilities{}
	if has != nil {
		c = *has
	}
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted} {
		*set = slices.Clone(*set)
		for _, name := range add {
			name = strings.ToUpper(name)
			if !strings.HasPrefix(name, "CAP_") {
				name = "CAP_" + name
			}
			if !slices.Contains(*set, name) {
				*set = append(*set, name)
			}
		}
	}
	return &c
}

// Exec runs a process in a running container. Unless it is left alone, its
// exit status comes back as an engine.ExitError.
func (r *Runtime) Exec(ctx context.Context, o ExecOptions) error {
	if err := keepFiles(); err != nil {
		return err
	}
	dir, client, err := r.dial(o.ID)
	if err != nil {
		return err
	}
	defer client.Close()
	if o.Process.Terminal && o.ConsoleSocket == "" && !o.Detach {
		return r.inOurTerminal(ctx, dir, client, o)
	}
	if err := checkTerminal(o.Process.Terminal, o.ConsoleSocket); err != nil {
		return err
	}
	e := &execution{dir: dir, client: client, id: record.NewID()[:32]}
	if err := e.start(ctx, r.Engine.ShimPath, o); err != nil {
		e.discard(ctx)
		return engine.CommandError(denied(err))
	}
	if o.Detach {
		return nil
	}
	return e.follow(ctx)
}

// inOurTerminal runs a process whose terminal is this command's.
func (r *Runtime) inOurTerminal(ctx context.Context, dir record.Dir, client *engine.Client, o ExecOptions) error {
	session := engine.Session{
		Client: client, ID: dir.ID, ExecID: record.NewID()[:32], FIFOs: dir.FIFOs(),
		Interactive: engine.IsTerminal(o.Stdin), Terminal: true, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
	}
	return session.Exec(ctx, o.Process, false)
}

// execution is a process that is being added.
type execution struct {
	dir     record.Dir
	client  *engine.Client
	id      string
	standIn *standin.Left
}

func (e *execution) start(ctx context.Context, program string, o ExecOptions) error {
	console, err := openConsole(o.ConsoleSocket)
	if err != nil {
		return err
	}
	defer console.close()
	if o.Detach || o.PIDFile != "" {
		if err := e.stand(program, o.Process, console); err != nil {
			return err
		}
	}
	files, err := hand(e.dir, console, e.standIn, streams{stdin: o.Stdin, stdout: o.Stdout, stderr: o.Stderr})
	if err != nil {
		return err
	}
	defer files.Close()
	if err := e.client.Exec(ctx, e.dir.ID, e.id, o.Process, files.uris); err != nil {
		return err
	}
	if err := console.send(); err != nil {
		return err
	}
	if err := e.client.StartExec(ctx, e.dir.ID, e.id); err != nil {
		return err
	}
	if e.standIn == nil {
		return nil
	}
	return writePID(o.PIDFile, e.standIn.PID())
}

// stand starts the process of the host that stands for this one.
func (e *execution) stand(program string, p *specs.Process, c *console) error {
	spec, err := engine.Spec(e.dir)
	if err != nil {
		return err
	}
	rec, err := e.dir.Record()
	if err != nil {
		return err
	}
	spec.Process = p
	s := standin.Of(spec)
	s.Root = rootOf(rec.Given, spec)
	if s.Net == standin.NewNet {
		// It is that of the container, which only its own stand-in has.
		s.Net = ""
	}
	e.standIn, err = s.Leave(program, c.slave())
	return err
}

func (e *execution) discard(ctx context.Context) {
	// There may be none, or it may never have run.
	_ = e.client.DeleteExec(ctx, e.dir.ID, e.id)
	if e.standIn != nil {
		e.standIn.Kill()
	}
}

// follow waits for the end of the process.
func (e *execution) follow(ctx context.Context) error {
	stop := engine.ForwardSignals(ctx, e.client, e.dir.ID, e.id)
	defer stop()
	status, err := e.client.Wait(ctx, e.dir.ID, e.id)
	if err != nil {
		return fmt.Errorf("wait for the process: %w", err)
	}
	if e.standIn != nil {
		e.standIn.Wait()
	}
	_ = e.client.DeleteExec(ctx, e.dir.ID, e.id)
	if status != 0 {
		return &engine.ExitError{Code: status}
	}
	return nil
}
