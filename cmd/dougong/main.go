// Command dougong runs containers, each in a virtual machine of its own.
//
// Every file holds one command: its flags, its help and what it prints. The
// work is done by the internal packages.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"dougong.dev/dougong/internal/engine"
)

func main() {
	err := newRootCommand().ExecuteContext(context.Background())
	var exit *engine.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		if exit.Err != nil {
			fmt.Fprintln(os.Stderr, "dougong:", exit.Err)
		}
		os.Exit(exit.Code)
	default:
		fmt.Fprintln(os.Stderr, "dougong:", err)
		os.Exit(1)
	}
}
