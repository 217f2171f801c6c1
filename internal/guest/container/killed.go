package container

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// monitor waits for commands of the runtime, and tells the signal that one was
// ended by. To go-runc that is the exit status -1.
type monitor struct{ runc.ProcessMonitor }

func init() { runc.Monitor = monitor{runc.Monitor} }

// Wait implements runc.ProcessMonitor.
func (m monitor) Wait(cmd *exec.Cmd, ended chan runc.Exit) (int, error) {
	code, err := m.ProcessMonitor.Wait(cmd, ended)
	if err != nil || cmd.ProcessState == nil {
		return code, err
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return code, nil
	}
	return code, &killedError{program: cmd.Path, signal: status.Signal(), kernel: kernelOn(cmd.Process.Pid, kernelLog())}
}

// killedError says that a command of the runtime was ended by a signal.
type killedError struct {
	program string
	signal  unix.Signal
	// kernel is what the kernel has said of it, if anything.
	kernel string
}

func (e *killedError) Error() string {
	text := fmt.Sprintf("%s was killed by %s", e.program, unix.SignalName(e.signal))
	if e.kernel != "" {
		text += "; the guest's kernel says: " + e.kernel
	}
	return text
}

// kernelLog is the end of what the kernel has said, "" where it cannot be had.
func kernelLog() string {
	text := make([]byte, 16<<10)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, text)
	if err != nil {
		return ""
	}
	return string(text[:n])
}

// stampAndLevel is what the kernel's lines begin with.
var stampAndLevel = regexp.MustCompile(`^(<\d+>)?(\[ *\d+\.\d+\] )?`)

// kernelOn is the last line of the kernel's that names a process: "crun[12]:
// segfault at …", or "… Killed process 12 (crun) …".
func kernelOn(pid int, log string) string {
	number := strconv.Itoa(pid)
	found := ""
	for line := range strings.Lines(log) {
		if strings.Contains(line, "["+number+"]") || strings.Contains(line, "process "+number+" ") {
			found = strings.TrimSpace(stampAndLevel.ReplaceAllString(line, ""))
		}
	}
	return found
}
