package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/ocirun"
	"dougong.dev/dougong/internal/record"
)

// groupOCI is the group of the OCI runtime's commands in the help.
const groupOCI = "oci"

// ociOptions are the flags that callers of OCI runtimes give before the
// command.
type ociOptions struct {
	root, log, logFormat string
}

func (o *ociOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.root, "root", "", "directory of the state of containers (default: runtime.state)")
	f.StringVar(&o.log, "log", "", "file to which errors are appended too")
	f.StringVar(&o.logFormat, "log-format", "text", "form of that file: text or json")
	f.Bool("systemd-cgroup", false, "take cgroup paths of the form SLICE:PREFIX:NAME (they are told by their form anyway)")
	f.Bool("debug", false, "accepted for callers of other OCI runtimes; see runtime.log_level")
	f.String("rootless", "", "accepted for callers of other OCI runtimes; dougong needs root")
	f.String("criu", "", "accepted for callers of other OCI runtimes")
	for _, name := range []string{"debug", "rootless", "criu"} {
		// It is there.
		_ = f.MarkHidden(name)
	}
}

// logError appends an error to the log of the caller, who reads it there.
func (o *ociOptions) logError(err error) error {
	if o.log == "" {
		return nil
	}
	f, openErr := os.OpenFile(o.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if openErr != nil {
		return fmt.Errorf("write --log: %w", openErr)
	}
	defer f.Close()
	now := time.Now().Format(time.RFC3339)
	line := fmt.Sprintf("time=%q level=error msg=%q\n", now, err.Error())
	if o.logFormat == "json" {
		entry := map[string]string{"level": "error", "msg": err.Error(), "time": now}
		data, err := json.Marshal(entry)
		if err != nil {
			return fmt.Errorf("write --log: %w", err)
		}
		line = string(data) + "\n"
	}
	if _, err := f.WriteString(line); err != nil {
		return fmt.Errorf("write --log: %w", err)
	}
	return nil
}

// newOCICommands are the commands of an OCI runtime that have no namesake
// among those for images; run, exec, ps and kill act on both kinds.
func newOCICommands(a *app) []*cobra.Command {
	return []*cobra.Command{
		newCreateCommand(a), newStartCommand(a), newStateCommand(a), newDeleteCommand(a), newListCommand(a),
		newPauseCommand(a), newResumeCommand(a), newUpdateCommand(a), newEventsCommand(a),
		newSpecCommand(), newFeaturesCommand(), newCheckpointCommand(), newRestoreCommand(),
	}
}

// runtime returns what the OCI commands work with. Unlike containers it does
// not look after containers that nobody has asked for.
func (a *app) runtime() (*ocirun.Runtime, error) {
	if os.Geteuid() != 0 {
		return nil, errNotRoot
	}
	root, err := record.NewRoot(a.cfg.Runtime.State)
	if err != nil {
		return nil, err
	}
	shim, err := shimPath(a.cfg.Runtime.Shim)
	if err != nil {
		return nil, err
	}
	e := &engine.Engine{Root: root, StateDir: a.cfg.Runtime.State, ShimPath: shim, ConfigPath: a.configPath}
	return &ocirun.Runtime{Engine: e, Prepare: func() { a.startKeeper(shim) }}, nil
}

var errNotRoot = errors.New("dougong must be run as root: it makes mounts, and gives each virtual machine a user of its own")

// given returns the runtime when a container of exactly this id was made by
// the OCI commands, and else nil.
func (a *app) given(id string) *ocirun.Runtime {
	root := record.At(a.cfg.Runtime.State)
	dir, err := root.Get(id)
	if err != nil {
		return nil
	}
	rec, err := dir.Record()
	if err != nil || rec.Given == "" {
		return nil
	}
	r, err := a.runtime()
	if err != nil {
		return nil
	}
	return r
}

// bundleFlags are the flags of commands that make a container of a bundle.
type bundleFlags struct {
	bundle, consoleSocket, pidFile string
	preserve                       int
}

// register adds the flags. The default of the bundle is the working directory.
func (b *bundleFlags) register(f *pflag.FlagSet, bundle string) {
	f.StringVarP(&b.bundle, "bundle", "b", bundle, "directory of the OCI bundle")
	b.registerProcess(f)
	f.Bool("no-pivot", false, "accepted for callers of other OCI runtimes")
	f.Bool("no-new-keyring", false, "accepted for callers of other OCI runtimes")
	_, _ = f.MarkHidden("no-pivot"), f.MarkHidden("no-new-keyring")
}

func (b *bundleFlags) registerProcess(f *pflag.FlagSet) {
	f.StringVar(&b.consoleSocket, "console-socket", "", "socket to which the terminal of the process is sent")
	f.StringVar(&b.pidFile, "pid-file", "", "file for the process id: that of a process of the host which ends as the container's does")
	f.IntVar(&b.preserve, "preserve-fds", 0, "descriptors to pass on; a virtual machine takes none")
}

// check refuses what a virtual machine cannot do.
func (b *bundleFlags) check() error {
	if b.preserve != 0 {
		return fmt.Errorf("--preserve-fds %d: open files of the host cannot be passed into a virtual machine", b.preserve)
	}
	if n := listenFDs(os.Getenv, os.Getpid()); n != "" {
		return fmt.Errorf("LISTEN_FDS=%s: sockets that systemd listens at cannot be passed into a virtual machine; publish a port instead", n)
	}
	return nil
}

// listenFDs is how many sockets systemd has opened for a process, "" for none.
// Other runtimes pass them on without being told to.
func listenFDs(getenv func(string) string, pid int) string {
	n := getenv("LISTEN_FDS")
	if n == "0" || getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return ""
	}
	return n
}

// options are those of a container with our standard streams.
func (b *bundleFlags) options(id string) (ocirun.CreateOptions, error) {
	if err := b.check(); err != nil {
		return ocirun.CreateOptions{}, err
	}
	o := ocirun.CreateOptions{
		ID: id, Bundle: b.bundle, ConsoleSocket: b.consoleSocket, PIDFile: b.pidFile,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if b.consoleSocket == "" {
		return o, nil
	}
	var err error
	if o.ConsoleSocket, err = filepath.Abs(b.consoleSocket); err != nil {
		return o, fmt.Errorf("find --console-socket: %w", err)
	}
	return o, nil
}

// newVerb makes a command that acts on one container by its exact id.
func newVerb(use, short string, a *app, do func(*cobra.Command, *ocirun.Runtime, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.runtime()
			if err != nil {
				return err
			}
			return do(cmd, r, args[0])
		},
	}
}
