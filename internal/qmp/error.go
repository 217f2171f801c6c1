package qmp

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
)

// ErrClosed is what commands and Err return after Close was called on this
// side.
var ErrClosed = errors.New("qmp: connection closed")

// maxDesc bounds the text that an error reply may carry, in bytes.
const maxDesc = 4096

// Error is QEMU's refusal of a command.
type Error struct {
	// Class is QEMU's error class, most often "GenericError".
	Class string
	// Desc is QEMU's text for people.
	Desc string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Class == "" || e.Class == "GenericError" {
		return e.Desc
	}
	return fmt.Sprintf("%s (%s)", e.Desc, e.Class)
}

// Unwrap gives the errdefs class that matches QEMU's, if there is one.
func (e *Error) Unwrap() error {
	switch e.Class {
	case "DeviceNotFound":
		return errdefs.ErrNotFound
	case "CommandNotFound":
		return errdefs.ErrNotImplemented
	case "DeviceNotActive":
		return errdefs.ErrFailedPrecondition
	}
	return nil
}
