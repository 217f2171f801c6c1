// Command busybox-image writes an OCI layout with one image made from this
// machine's static busybox, for `make run` and for tests without a registry.
package main

import (
	"fmt"
	"os"

	"dougong.dev/dougong/internal/image/imagetest"
)

// busybox is where Debian's package busybox-static puts it.
const busybox = "/bin/busybox"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "busybox-image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the directory to write, and got %d", len(args))
	}
	if _, err := os.Stat(busybox); err != nil {
		return fmt.Errorf("look for the static busybox (package busybox-static): %w", err)
	}
	return imagetest.BusyboxLayout(args[0], busybox)
}
