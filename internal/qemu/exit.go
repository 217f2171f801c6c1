package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"

	"dougong.dev/dougong/internal/child"
	"dougong.dev/dougong/internal/qmp"
)

// Reason says what kind of end a machine came to.
type Reason string

// The ends of a machine other than the guest's own power-off.
const (
	// ReasonPanic is a panic of the guest's kernel.
	ReasonPanic Reason = "panic"
	// ReasonReset is a reset by the guest without a sign of a panic.
	ReasonReset Reason = "reset"
	// ReasonKilled is a signal that QEMU could not or did not catch.
	ReasonKilled Reason = "killed"
	// ReasonFailed is QEMU giving up by itself.
	ReasonFailed Reason = "failed"
)

// consoleLines is how much of the console an ExitError shows.
const consoleLines = 15

// ExitError says why a machine is gone.
type ExitError struct {
	// Machine is the spec's name.
	Machine string
	Reason  Reason
	// Signal ended QEMU if it is not 0.
	Signal syscall.Signal
	// Detail is the panic's or QEMU's own text; it may be empty.
	Detail string
	// Console is the last lines of the guest's console.
	Console []string
	// Cause is what QEMU's text was found to mean, or nil.
	Cause error
}

// Error implements error.
func (e *ExitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "virtual machine %s: %s", e.Machine, e.what())
	if len(e.Console) > 0 {
		b.WriteString("; the console's last lines:")
		for _, line := range e.Console {
			b.WriteString("\n  " + line)
		}
	}
	return b.String()
}

func (e *ExitError) what() string {
	text := map[Reason]string{
		ReasonPanic:  "the guest's kernel panicked",
		ReasonReset:  "the guest reset itself",
		ReasonKilled: fmt.Sprintf("QEMU was killed by %s", signalName(e.Signal)),
		ReasonFailed: "QEMU ended",
	}[e.Reason]
	if e.Cause != nil {
		return text + ": " + e.Cause.Error()
	}
	if e.Detail != "" {
		return text + ": " + e.Detail
	}
	return text
}

// Unwrap gives the cause, with its errdefs class.
func (e *ExitError) Unwrap() error { return e.Cause }

// signalName adds what the signals that QEMU is known to die of mean.
func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGKILL:
		return "SIGKILL (by the host's out-of-memory killer, if by nobody else)"
	case syscall.SIGSYS:
		return "SIGSYS (it made a system call that its filter forbids)"
	case syscall.SIGBUS:
		return "SIGBUS (the host had no memory left for the guest's)"
	}
	return s.String()
}

// ending is all that was seen of a machine's end.
type ending struct {
	machine string
	// shutdown is the reason of QEMU's SHUTDOWN event; empty without one.
	shutdown string
	// panicked says that QEMU reported a panic.
	panicked bool
	// process is how the process ended, as by exec.Cmd.Wait.
	process error
	// console and stderr are the last that was printed.
	console, stderr string
}

// see takes note of an event.
func (e *ending) see(event qmp.Event) {
	switch event.Name {
	case "GUEST_PANICKED":
		e.panicked = true
	case "SHUTDOWN":
		var data struct{ Reason string }
		if json.Unmarshal(event.Data, &data) == nil {
			e.shutdown = data.Reason
		}
	}
}

// err is the exit cause: nil when the guest powered itself off or this side
// asked QEMU to quit. explain finds the meaning of QEMU's own text.
func (e *ending) err(explain func(stderr string) error) error {
	text := panicText(e.console)
	x := &ExitError{Machine: e.machine, Console: lastLines(e.console, consoleLines)}
	switch {
	case e.panicked || e.shutdown == "guest-panic":
		x.Reason, x.Detail = ReasonPanic, text
	case e.shutdown == "guest-shutdown" || e.shutdown == "host-qmp-quit":
		return nil
	case text != "" && (e.shutdown == "guest-reset" || e.process == nil):
		x.Reason, x.Detail = ReasonPanic, text
	case e.shutdown == "guest-reset":
		x.Reason = ReasonReset
	default:
		e.processError(x, explain)
	}
	return x
}

// processError fills x from the way the process ended.
func (e *ending) processError(x *ExitError, explain func(string) error) {
	x.Reason = ReasonFailed
	x.Detail = strings.Join(lastLines(stripPrefix(e.stderr), 3), "; ")
	if exit, ok := errors.AsType[*exec.ExitError](e.process); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			x.Reason, x.Signal = ReasonKilled, status.Signal()
			return
		}
	}
	unknown := errors.Is(e.process, child.ErrUnknownEnd)
	if (e.process == nil || unknown) && e.shutdown == "host-signal" {
		x.Detail = "a signal of the host asked it to"
		return
	}
	x.Cause = explain(e.stderr)
	if x.Cause == nil && x.Detail == "" {
		x.Detail = "without a word"
		if unknown {
			x.Detail += ", as it does when it is killed (by the host's out-of-memory killer, if by nobody else)"
		} else if e.process != nil {
			x.Detail += " (" + e.process.Error() + ")"
		}
	}
}

// panicMark begins the kernel's last line.
const panicMark = "Kernel panic - "

// panicText finds the kernel's own words for a panic on the console.
func panicText(console string) string {
	_, after, ok := strings.Cut(console, panicMark)
	if !ok {
		return ""
	}
	line, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(line)
}
