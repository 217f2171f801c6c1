package main

import (
	"context"
	"os"

	"github.com/spf13/pflag"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/ocirun"
)

// ociExecOptions are the flags of exec that OCI runtimes have, for containers
// made of bundles.
type ociExecOptions struct {
	bundleFlags
	process         string
	caps            []string
	groups          []uint
	noNewPrivileges bool
}

func (o *ociExecOptions) register(f *pflag.FlagSet) {
	o.registerProcess(f)
	f.StringVarP(&o.process, "process", "p", "", "file with an OCI process, instead of a command")
	f.StringArrayVarP(&o.caps, "cap", "c", nil, "add a capability to the process")
	f.UintSliceVarP(&o.groups, "additional-gids", "g", nil, "additional groups of the process")
	f.BoolVar(&o.noNewPrivileges, "no-new-privs", false, "the process can gain no privileges")
	for _, name := range []string{"apparmor", "process-label", "cgroup"} {
		f.String(name, "", "accepted for callers of other OCI runtimes")
		_ = f.MarkHidden(name)
	}
	f.Bool("ignore-paused", false, "accepted for callers of other OCI runtimes")
	_ = f.MarkHidden("ignore-paused")
}

// execGiven runs a process in a container made of a bundle. Its input is
// always ours, as OCI runtimes have it.
func (o *execOptions) execGiven(ctx context.Context, r *ocirun.Runtime, id string, args []string) error {
	if err := o.oci.check(); err != nil {
		return engine.EngineError(err)
	}
	env, err := collectEnv(o.env, o.envFiles)
	if err != nil {
		return engine.EngineError(err)
	}
	process, err := r.Process(id, ocirun.ProcessOptions{
		File: o.oci.process, Args: args, Cwd: o.workdir, User: o.user, Env: env, Caps: o.oci.caps, Groups: o.oci.groups,
		Terminal: o.tty, NoNewPrivileges: o.oci.noNewPrivileges,
	})
	if err != nil {
		return engine.EngineError(err)
	}
	create, err := o.oci.options(id)
	if err != nil {
		return engine.EngineError(err)
	}
	return r.Exec(ctx, ocirun.ExecOptions{
		ID: id, Process: process, ConsoleSocket: create.ConsoleSocket, PIDFile: create.PIDFile, Detach: o.detach,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
}
