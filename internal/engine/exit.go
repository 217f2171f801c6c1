package engine

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// Exit codes of the command line itself, as Docker's users know them.
const (
	// CodeEngine says that the engine failed, not the container.
	CodeEngine = 125
	// CodeNotExecutable says that the command is there but cannot be run.
	CodeNotExecutable = 126
	// CodeNotFound says that the command is not there.
	CodeNotFound = 127
)

// ExitError ends this process with a code of its own. With no Err the code is
// a container's and there is nothing to say.
type ExitError struct {
	Code int
	Err  error
}

// Error returns the message.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// EngineError gives err the code that the engine's own failures have.
func EngineError(err error) error {
	if err == nil {
		return nil
	}
	return &ExitError{Code: CodeEngine, Err: err}
}

// CommandError gives an error of creating or starting a process its code: the
// agent names the executable where it is at fault.
func CommandError(err error) error {
	code := CodeEngine
	if strings.Contains(err.Error(), `exec "`) {
		switch {
		case errdefs.IsNotFound(err):
			code = CodeNotFound
		case errdefs.IsPermissionDenied(err):
			code = CodeNotExecutable
		}
	}
	return &ExitError{Code: code, Err: err}
}
