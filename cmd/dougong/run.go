package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/containerlog"
	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/shim"
)

func newRunCommand(a *app) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND [ARG…]] | run --bundle DIR ID",
		Short: "Run a command in a new container, in a virtual machine of its own",
		Long: `Run a command in a new container, in a virtual machine of its own.

IMAGE is a reference in a registry (busybox, docker://quay.io/org/name:tag), an OCI
layout (oci:DIR[:TAG]), an archive (oci-archive:FILE, docker-archive:FILE) or a root
file system (dir:ROOTFS; the container sees it as its image, and changes are lost).

With --bundle, the container is that of an OCI bundle, as with other OCI runtimes, and
ID its name; of the flags only --detach, --keep and those about processes are for it.

The exit status is the command's own; 125 when dougong itself failed, 126 when the
command cannot be executed, 127 when it is not there.`,
		Args: func(cmd *cobra.Command, args []string) error {
			return engine.EngineError(cobra.MinimumNArgs(1)(cmd, args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.bundle.bundle != "" {
				return a.runBundle(cmd.Context(), o, args)
			}
			return a.run(cmd.Context(), o, args[0], args[1:])
		},
	}
	o.register(cmd.Flags())
	return cmd
}

func (a *app) run(ctx context.Context, o *runOptions, image string, args []string) error {
	e, err := a.containers()
	if err != nil {
		return err
	}
	times, err := newTiming(o.timing)
	if err != nil {
		return engine.EngineError(err)
	}
	done := times.phase("image")
	launch, err := a.plan(ctx, o, image, args)
	done()
	if err != nil {
		return engine.EngineError(err)
	}
	done = times.phase("process")
	a.startKeeper(e.ShimPath)
	sandbox, err := e.Prepare(*launch)
	done()
	if err != nil {
		return engine.EngineError(err)
	}
	r := &runner{sandbox: sandbox, launch: launch, times: times}
	if o.detach {
		return reportTiming(times, r.detached(ctx))
	}
	return reportTiming(times, r.attached(ctx, o))
}

// startKeeper starts the pool's keeper, if there is to be one. A container
// starts without it, too.
func (a *app) startKeeper(program string) {
	if err := shim.StartKeeper(a.host, program, a.configPath); err != nil {
		slog.Warn("start the pool's keeper", "error", err)
	}
}

// runner sees one container through its life.
type runner struct {
	sandbox *engine.Sandbox
	launch  *engine.Launch
	times   *timing
}

// detached starts the container and leaves it alone.
func (r *runner) detached(ctx context.Context) error {
	log := "log://" + r.sandbox.Dir.ContainerLog()
	r.launch.Stdio = engine.StdioURIs{Stdout: log, Stderr: log}
	if err := r.start(ctx); err != nil {
		return err
	}
	if err := r.sandbox.Detach(); err != nil {
		return engine.EngineError(err)
	}
	fmt.Println(r.launch.Record.ID)
	return nil
}

// start creates and starts the container; on failure nothing of it is left.
func (r *runner) start(ctx context.Context) error {
	done := r.times.phase("container")
	err := r.sandbox.Create(ctx, *r.launch)
	if err == nil {
		err = r.sandbox.Start(ctx)
	}
	done()
	if err == nil {
		err = r.times.running(r.sandbox.Dir)
	}
	if err != nil {
		r.sandbox.End(ctx, true)
		return engine.CommandError(err)
	}
	return nil
}

// attached starts the container and stays with it.
func (r *runner) attached(ctx context.Context, o *runOptions) error {
	session, closeLog, err := r.session(o)
	if err != nil {
		r.sandbox.End(ctx, true)
		return engine.EngineError(err)
	}
	defer closeLog()
	if r.launch.Stdio, err = session.Attach(ctx); err != nil {
		r.sandbox.End(ctx, true)
		return engine.EngineError(err)
	}
	defer session.Close()
	if err := r.start(ctx); err != nil {
		return err
	}
	stop := engine.ForwardSignals(ctx, r.sandbox.Client, r.sandbox.Dir.ID, "")
	defer stop()
	done := r.times.phase("command")
	_, err = session.Follow(ctx)
	done()
	return r.finish(ctx, err)
}

// finish ends the sandbox after its container and reports the exit status.
func (r *runner) finish(ctx context.Context, err error) error {
	done := r.times.phase("end")
	exit := r.sandbox.End(ctx, false)
	done()
	switch {
	case exit.Error != "":
		return &engine.ExitError{Code: exit.Status, Err: fmt.Errorf("container %s: %s", shortID(r.launch.Record.ID), exit.Error)}
	case err != nil:
		return engine.EngineError(err)
	case exit.Status != 0:
		return &engine.ExitError{Code: exit.Status}
	}
	return nil
}

// session connects our stdio. A container that stays after its end gets a
// log of its output too.
func (r *runner) session(o *runOptions) (*engine.Session, func(), error) {
	s := &engine.Session{
		Client: r.sandbox.Client, ID: r.sandbox.Dir.ID, FIFOs: r.sandbox.Dir.FIFOs(),
		Interactive: o.interactive, Terminal: o.tty,
		Stdin: os.Stdin, Stdout: r.times.watch(os.Stdout), Stderr: r.times.watch(os.Stderr),
	}
	if o.remove {
		return s, func() {}, nil
	}
	out, err := containerlog.Open(r.sandbox.Dir.ContainerLog(), "stdout")
	if err != nil {
		return nil, nil, err
	}
	errs, err := containerlog.Open(r.sandbox.Dir.ContainerLog(), "stderr")
	if err != nil {
		_ = out.Close()
		return nil, nil, err
	}
	s.Stdout, s.Stderr = tee(s.Stdout, out), tee(s.Stderr, errs)
	return s, func() { _, _ = out.Close(), errs.Close() }, nil
}

// tee writes to the log whatever becomes of the other.
func tee(to, log io.Writer) io.Writer { return io.MultiWriter(log, to) }
