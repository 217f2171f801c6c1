// Command containerd-shim-dougong-v2 is the sandbox process: it owns one
// virtual machine and serves containerd's Task service for what runs in it.
//
// This command only reads its flags; everything else is package shim.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/record"
	"dougong.dev/dougong/internal/shim"
	"dougong.dev/dougong/internal/version"
)

func main() {
	// The process mostly waits; memory is worth more to it than a rare pause.
	debug.SetGCPercent(40)
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "containerd-shim-dougong-v2:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		serve       = flag.Bool("serve", false, "serve one sandbox without a daemon (used by dougong itself)")
		id          = flag.String("id", "", "id of the sandbox")
		state       = flag.String("state", "", "directory of all sandboxes")
		configPath  = flag.String("config", "", "configuration file")
		showVersion = flag.Bool("v", false, "print the version and exit")
	)
	flag.Parse()
	switch {
	case *showVersion:
		fmt.Println("containerd-shim-dougong-v2", version.String())
		return nil
	case *serve:
		return serveStandalone(*state, *id, *configPath)
	}
	return fmt.Errorf("nothing to do: this process is started by dougong; see 'dougong run --help'")
}

func serveStandalone(state, id, configPath string) error {
	cfg, err := config.Load(configPath)
	if err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: cfg.Runtime.LogLevel})))
	root, err := record.NewRoot(state)
	if err != nil {
		return err
	}
	dir, err := root.Find(id)
	if err != nil {
		return err
	}
	listener, lease, err := shim.Inherited()
	if err != nil {
		return err
	}
	s := &shim.Standalone{Dir: dir, Config: cfg, Listener: listener, Lease: lease}
	return s.Run(context.Background())
}
