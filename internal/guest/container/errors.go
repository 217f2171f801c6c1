package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// runtimeError turns what a runtime says into what a user of containers
// knows, with a class. args0 is the command that was to run.
func runtimeError(message, args0, cwd string) error {
	lower := strings.ToLower(message)
	switch {
	case strings.Contains(lower, "unable to find user"), strings.Contains(lower, "setresuid"),
		strings.Contains(lower, "no matching entries in passwd"):
		return fmt.Errorf("%s: %w", message, errdefs.ErrInvalidArgument)
	case strings.Contains(lower, "chdir"), strings.Contains(lower, "cwd"):
		return fmt.Errorf("working directory %q: %s: %w", cwd, reason(lower), errdefs.ErrInvalidArgument)
	case strings.Contains(lower, "executable file") && strings.Contains(lower, "not found"):
		return notFound(args0)
	case isExec(lower) && strings.Contains(lower, "no such file or directory"):
		return notFound(args0)
	case isExec(lower) && strings.Contains(lower, "operation not permitted"):
		return notExecutable(args0, "is a directory")
	case isExec(lower) && hasAny(lower, "permission denied", "is a directory", "exec format error"):
		return notExecutable(args0, reason(lower))
	case strings.Contains(lower, "unknown version"), strings.Contains(lower, "invalid"):
		return fmt.Errorf("%s: %w", message, errdefs.ErrInvalidArgument)
	default:
		return errors.New(message)
	}
}

func isExec(lower string) bool {
	return hasAny(lower, "executable", "exec container process", "exec:", "exec ", "execve", "starting container process")
}

func hasAny(s string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

func notFound(args0 string) error {
	if strings.Contains(args0, "/") {
		return classed{fmt.Sprintf("exec %q: no such file or directory", args0), errdefs.ErrNotFound}
	}
	return classed{fmt.Sprintf("exec %q: executable file not found in $PATH", args0), errdefs.ErrNotFound}
}

func notExecutable(args0, why string) error {
	return classed{fmt.Sprintf("exec %q: %s", args0, why), errdefs.ErrPermissionDenied}
}

// classed is an error whose text stays that of a person, with the class
// beside it.
type classed struct {
	text  string
	class error
}

func (e classed) Error() string { return e.text }
func (e classed) Unwrap() error { return e.class }

// reason is the last part of a runtime's message, which says why.
func reason(message string) string {
	parts := strings.Split(strings.TrimSpace(message), ": ")
	return strings.TrimSpace(parts[len(parts)-1])
}

// lastLogged is the last line of a runtime's log, "" when there is none.
func lastLogged(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// commandError is the error of a runtime's command that was run with ctx: what
// it logged, or what it printed. Of one that was killed what it logged is not why.
func commandError(ctx context.Context, err error, log, args0, cwd string) error {
	message := lastLogged(log)
	killed, ok := errors.AsType[*killedError](err)
	switch {
	case !ok && message != "":
		return runtimeError(message, args0, cwd)
	case ok && killed.signal == unix.SIGKILL && ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", err, context.Cause(ctx))
	}
	if message != "" {
		return fmt.Errorf("run the container runtime: %w; it last logged: %s", err, message)
	}
	return fmt.Errorf("run the container runtime: %w", err)
}
