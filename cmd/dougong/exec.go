package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/record"
)

// execOptions are the flags of dougong exec.
type execOptions struct {
	interactive, tty, detach, privileged bool
	user, workdir                        string
	env, envFiles                        []string
	oci                                  ociExecOptions
}

func newExecCommand(a *app) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [flags] CONTAINER COMMAND [ARG…]",
		Short: "Run a command in a running container",
		Long: `Run a command in a running container.

In a container made of a bundle by 'create' or 'run --bundle', standard input is always
connected, as with other OCI runtimes; the flags from --additional-gids to --process
are for such containers.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r := a.given(args[0]); r != nil {
				return o.execGiven(cmd.Context(), r, args[0], args[1:])
			}
			if err := cobra.MinimumNArgs(2)(cmd, args); err != nil {
				return engine.EngineError(withHint(cmd, err))
			}
			dir, err := a.find(args[0])
			if err != nil {
				return engine.EngineError(err)
			}
			return o.run(cmd.Context(), dir, args[1:])
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&o.interactive, "interactive", "i", false, "connect standard input")
	f.BoolVarP(&o.tty, "tty", "t", false, "give the command a terminal")
	f.BoolVarP(&o.detach, "detach", "d", false, "do not wait for the command")
	f.BoolVar(&o.privileged, "privileged", false, "give the command all capabilities")
	f.StringVarP(&o.user, "user", "u", "", "user of the command: NAME|UID[:GROUP|GID]")
	f.StringVarP(&o.workdir, "workdir", "w", "", "working directory")
	f.StringVar(&o.workdir, "cwd", "", "the same")
	f.StringArrayVarP(&o.env, "env", "e", nil, "set an environment variable: NAME=VALUE, or NAME to pass ours on")
	f.StringArrayVar(&o.envFiles, "env-file", nil, "read environment variables from a file")
	o.oci.register(f)
	return cmd
}

func (o *execOptions) run(ctx context.Context, dir record.Dir, args []string) error {
	client, err := engine.Dial(dir)
	if err != nil {
		return engine.EngineError(err)
	}
	defer client.Close()
	spec, err := o.process(dir, args)
	if err != nil {
		return engine.EngineError(err)
	}
	session := engine.Session{
		Client: client, ID: dir.ID, ExecID: record.NewID()[:32],
		FIFOs: dir.FIFOs(), Interactive: o.interactive, Terminal: o.tty,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if o.detach {
		session.Stdout, session.Stderr, session.Interactive = nil, nil, false
	}
	return session.Exec(ctx, spec, o.detach)
}

// process is the container's own process with another command.
func (o *execOptions) process(dir record.Dir, args []string) (*specs.Process, error) {
	container, err := engine.Spec(dir)
	if err != nil {
		return nil, err
	}
	env, err := collectEnv(o.env, o.envFiles)
	if err != nil {
		return nil, err
	}
	return execProcess(container.Process, o, args, env)
}

// execProcess is the container's process with the command and the flags of
// an exec.
func execProcess(container *specs.Process, o *execOptions, args, env []string) (*specs.Process, error) {
	p := *container
	p.Args = args
	p.Terminal = o.tty
	var err error
	if p.Env, err = oci.MergeEnv(p.Env, env); err != nil {
		return nil, err
	}
	if o.tty && !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		p.Env = append(p.Env, "TERM=xterm")
	}
	if o.user != "" {
		p.User = specs.User{Username: o.user}
	}
	if o.workdir != "" {
		p.Cwd = o.workdir
	}
	if o.privileged {
		p.Capabilities = oci.AllCapabilities()
	}
	return &p, nil
}
