// Command containerd-shim-dougong-v2 is the sandbox process: it owns one
// virtual machine and serves containerd's Task service for what runs in it.
//
// This command only reads its flags; everything else is package shim.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"

	"dougong.dev/dougong/internal/child"
	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/freeze"
	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/shim"
	"dougong.dev/dougong/internal/shim/bootstrap"
	"dougong.dev/dougong/internal/standin"
	"dougong.dev/dougong/internal/version"
)

func init() {
	if standin.Is() {
		// A process's name and namespaces are those of its main thread.
		runtime.LockOSThread()
	}
}

func main() {
	if err := child.Leased(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if freeze.IsHelper() {
		if err := freeze.Helper(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if standin.Is() {
		status, err := standin.Main()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		os.Exit(status)
	}
	// The process mostly waits; memory is worth more to it than a rare pause.
	debug.SetGCPercent(40)
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "containerd-shim-dougong-v2:", err)
		os.Exit(1)
	}
}

// options are the command line. Most of it is containerd's.
type options struct {
	bootstrap.Invocation
	standalone, keepPool, version, info bool

	files         bool
	state, config string
}

func (o *options) parse() string {
	o.Register(flag.CommandLine)
	flag.BoolVar(&o.standalone, "serve", false, "serve one sandbox without a daemon (used by dougong itself)")
	flag.BoolVar(&o.keepPool, "keep-pool", false, "keep the pool of waiting machines (used by dougong itself)")
	flag.StringVar(&o.state, "state", "", "directory of all sandboxes, with -serve")
	flag.BoolVar(&o.files, "files", false, "take standard streams from commands, with -serve")
	flag.StringVar(&o.config, "config", "", "configuration file")
	flag.BoolVar(&o.version, "v", false, "print the version and exit")
	flag.BoolVar(&o.version, "version", false, "print the version and exit")
	flag.BoolVar(&o.info, "info", false, "read options from standard input, describe this runtime on standard output and exit")
	flag.Parse()
	return flag.Arg(0)
}

func run() error {
	var o options
	action := o.parse()
	switch {
	case o.version:
		fmt.Println("containerd-shim-dougong-v2", version.String())
		return nil
	case o.info:
		return answer(bootstrap.Info(os.Stdin, version.String()))
	case action == "features":
		return answer(bootstrap.Features())
	case o.standalone:
		return serveStandalone(&o)
	case o.keepPool:
		return keepPool(&o)
	}
	if err := o.Validate(); err != nil {
		return fmt.Errorf("%w; to run a container without it, see 'dougong run --help'", err)
	}
	switch action {
	case "start":
		return answer(bootstrap.Start(&o.Invocation, os.Stdin, os.Getenv, startKeeper))
	case "delete":
		return deleteBundle(&o)
	case "":
		return serve(&o)
	}
	return fmt.Errorf("unknown action %q: want start or delete", action)
}

// answer hands the answer to containerd.
func answer(data []byte, err error) error {
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(data)
	return err
}

func deleteBundle(o *options) error {
	cwd, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the bundle: %w", err)
	}
	return answer(shim.Delete(cmp.Or(o.Bundle, cwd)))
}

// serve is the sandbox process under containerd, in the bundle's directory.
func serve(o *options) error {
	bundle, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the bundle: %w", err)
	}
	listener, mounts, err := listen(o.Socket)
	if err != nil {
		return err
	}
	if err := serveIn(bundle, o, listener, mounts); err != nil {
		// Nobody else can have made one as long as this process listens.
		_ = os.Remove(listener.Addr().String())
		return err
	}
	return nil
}

func serveIn(bundle string, o *options, listener net.Listener, mounts *os.File) error {
	log, err := shim.OpenLog(bundle)
	if err != nil {
		return err
	}
	cfg, err := config.Load(o.config)
	if err != nil {
		return err
	}
	if o.Debug {
		cfg.Runtime.LogLevel = slog.LevelDebug
	}
	startLog(log, cfg)
	shim.DumpStacks()
	d := &shim.Daemon{
		Namespace: o.Namespace, ID: o.ID, Bundle: bundle, Config: cfg,
		Listener: listener, Mounts: mounts, Events: os.Getenv("TTRPC_ADDRESS"),
	}
	return d.Run(context.Background())
}

// listen takes the inherited socket, with the mount namespace that comes with it,
// or one by its path.
func listen(path string) (net.Listener, *os.File, error) {
	if path != "" {
		listener, err := net.Listen("unix", path)
		return listener, nil, err
	}
	f, mounts := bootstrap.Inherited()
	defer f.Close()
	listener, err := net.FileListener(f)
	if err != nil {
		return nil, nil, fmt.Errorf("descriptor 3 is not a listening socket; containerd starts this command with 'start': %w", err)
	}
	return listener, mounts, nil
}

func startLog(w io.Writer, cfg config.Config) {
	slog.SetDefault(slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: cfg.Runtime.LogLevel})))
}

// startKeeper starts the keeper of a pool from the mount namespace of
// containerd: a sandbox process has one of its own.
func startKeeper(cfg config.Config, path string) {
	self, err := os.Executable()
	if err != nil {
		return
	}
	// The sandbox starts without one, and its log says so; containerd takes
	// whatever is written here for an address.
	_ = shim.StartKeeper(cfg, self, path)
}

func keepPool(o *options) error {
	cfg, err := config.Load(o.config)
	if err != nil {
		return err
	}
	startLog(os.Stderr, cfg)
	return shim.KeepPool(context.Background(), cfg)
}

func serveStandalone(o *options) error {
	cfg, err := config.Load(o.config)
	if err != nil {
		return err
	}
	startLog(os.Stderr, cfg)
	root, err := record.NewRoot(o.state)
	if err != nil {
		return err
	}
	dir, err := root.Find(o.ID)
	if err != nil {
		return err
	}
	s := &shim.Standalone{Dir: dir, Config: cfg}
	if err := s.Inherit(o.files); err != nil {
		return err
	}
	return s.Run(context.Background())
}
