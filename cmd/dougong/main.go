// Command dougong runs containers, each in a virtual machine of its own.
//
// Every file holds one command: its flags, its help and what it prints. The
// work is done by the internal packages.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/freeze"
)

func main() {
	if freeze.IsHelper() {
		if err := freeze.Helper(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	root, a := newRootCommand()
	cmd, err := root.ExecuteContextC(context.Background())
	os.Exit(report(os.Stderr, &a.oci, cmd, err))
}

// report prints what went wrong and returns the exit status of this process.
func report(stderr io.Writer, log *ociOptions, cmd *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	exit, known := errors.AsType[*engine.ExitError](err)
	if !known {
		exit = &engine.ExitError{Code: ownCode(cmd), Err: err}
	}
	if exit.Err != nil {
		fmt.Fprintln(stderr, "dougong:", err)
		if err := log.logError(err); err != nil {
			fmt.Fprintln(stderr, "dougong:", err)
		}
	}
	return exit.Code
}

// ownCode is the exit status of a command that failed by itself. Those that
// also end with the status of what they run keep the two apart, as Docker does.
func ownCode(cmd *cobra.Command) int {
	if slices.Contains([]string{"run", "exec"}, cmd.Name()) {
		return engine.CodeEngine
	}
	return 1
}
