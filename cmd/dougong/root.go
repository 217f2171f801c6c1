package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/image/layer"
	"dougong.dev/dougong/internal/pool"
	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/version"
)

// app is what the commands share once flags and configuration are read.
type app struct {
	configPath string
	cfg        config.Config
	// host is the configuration without --root: callers give each kind of
	// container a directory of its own, and the pool is for all.
	host   config.Config
	engine *engine.Engine
	oci    ociOptions
}

// Groups of commands in the help.
const (
	groupContainers = "containers"
	groupImages     = "images"
	groupHost       = "host"
)

func newRootCommand() (*cobra.Command, *app) {
	a := &app{}
	root := &cobra.Command{
		Use:           "dougong",
		Short:         "Run containers, each in a virtual machine of its own",
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if !needsConfig(cmd) {
				return nil
			}
			return a.configure()
		},
	}
	// As in Docker, a bad flag is told apart from a command that ended with 1.
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return engine.EngineError(withHint(cmd, err)) })
	a.oci.register(root.PersistentFlags())
	root.PersistentFlags().StringVar(&a.configPath, "config", "", "configuration file (default "+config.DefaultPath+")")
	root.AddGroup(
		&cobra.Group{ID: groupContainers, Title: "Containers:"},
		&cobra.Group{ID: groupOCI, Title: "Containers of OCI bundles:"},
		&cobra.Group{ID: groupImages, Title: "Images:"},
		&cobra.Group{ID: groupHost, Title: "Host:"},
	)
	addCommands(root, groupContainers, newRunCommand(a), newExecCommand(a), newPsCommand(a), newLogsCommand(a),
		newStopCommand(a), newKillCommand(a), newRmCommand(a), newInspectCommand(a))
	addCommands(root, groupOCI, newOCICommands(a)...)
	addCommands(root, groupImages, newImagesCommand(a), newPullCommand(a), newLoadCommand(a), newRmiCommand(a))
	addCommands(root, groupHost, newGuestCommand(a), newTemplateCommand(a), newPoolCommand(a), newVolumeCommand(a), newCheckCommand(a), newBenchCommand(a), newConfigCommand(), newVersionCommand(a), newManCommand())
	return root, a
}

// needsConfig reports whether a command looks at the configuration. A broken
// file must not be in the way of those that do not.
func needsConfig(cmd *cobra.Command) bool {
	for ; cmd.HasParent(); cmd = cmd.Parent() {
		if slices.Contains([]string{"config", "version", "features", "spec", "checkpoint", "restore", "man", "help", "completion"}, cmd.Name()) {
			return false
		}
	}
	return true
}

// withHint says where a command's flags and arguments are explained.
func withHint(cmd *cobra.Command, err error) error {
	return fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())
}

func addCommands(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		if check := c.Args; check != nil {
			c.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return withHint(cmd, err)
				}
				return nil
			}
		}
		root.AddCommand(c)
	}
}

// configure reads the configuration and prepares the engine.
func (a *app) configure() error {
	cfg, err := config.Load(a.configPath)
	if err != nil {
		return err
	}
	if a.configPath != "" {
		// The sandbox process reads it too, from a directory of its own.
		if a.configPath, err = filepath.Abs(a.configPath); err != nil {
			return fmt.Errorf("find the configuration: %w", err)
		}
	}
	a.host = cfg
	if a.oci.root != "" {
		if cfg.Runtime.State, err = filepath.Abs(a.oci.root); err != nil {
			return fmt.Errorf("find --root: %w", err)
		}
	}
	a.cfg = cfg
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	return nil
}

// containers returns the engine, after cleaning up behind sandboxes that were
// killed.
func (a *app) containers() (*engine.Engine, error) {
	if a.engine != nil {
		return a.engine, nil
	}
	if os.Geteuid() != 0 {
		return nil, errNotRoot
	}
	root, err := record.NewRoot(a.cfg.Runtime.State)
	if err != nil {
		return nil, err
	}
	if err := root.Sweep(func(d record.Dir) error { return cgroup.Clear(d.Path()) }); err != nil {
		return nil, err
	}
	if err := pool.Sweep(a.host.Runtime.State, cgroup.Clear); err != nil {
		slog.Warn("sweep", "error", err)
	}
	shim, err := shimPath(a.cfg.Runtime.Shim)
	if err != nil {
		return nil, err
	}
	a.engine = &engine.Engine{Root: root, StateDir: a.cfg.Runtime.State, ShimPath: shim, ConfigPath: a.configPath}
	return a.engine, nil
}

// find looks up one container.
func (a *app) find(ref string) (record.Dir, error) {
	e, err := a.containers()
	if err != nil {
		return record.Dir{}, err
	}
	return e.Root.Find(ref)
}

// store opens the image store.
func (a *app) store() (*image.Store, error) {
	limits := layer.DefaultLimits()
	limits.UnpackedBytes = int64(a.cfg.Storage.MaxUnpackedGiB) << 30
	limits.FileBytes = int64(a.cfg.Storage.MaxFilesGiB) << 30
	limits.Entries = int64(a.cfg.Storage.MaxImageEntries)
	limits.MetadataBytes = int64(a.cfg.Storage.MaxMetadataMiB) << 20
	limits.Ratio = int64(a.cfg.Storage.MaxUnpackRatio)
	return image.Open(a.cfg.Storage.Root, image.Options{Limits: limits})
}

const shimName = "containerd-shim-dougong-v2"

// shimPath finds the sandbox process's binary: configured, beside this
// program, or in PATH.
func shimPath(configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), shimName)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath(shimName)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside dougong nor in PATH: install it there, or set runtime.shim in the configuration", shimName)
	}
	return path, nil
}
