// Package flags parses the values of `dougong run`'s flags as Docker users
// write them: mounts, volumes, ports, sizes, environment files, labels.
//
// It owns the syntax and must not touch the machine: relative paths, volume
// names and variables of the host are returned for the caller to resolve.
// Every error is errdefs.ErrInvalidArgument and quotes what was given.
package flags

import (
	"fmt"

	"github.com/containerd/errdefs"
)

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}
