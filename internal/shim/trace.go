package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// traceFile is where a sandbox process notes the mount namespace in which it
// and its children live, for the case that it cannot clean up by itself.
const traceFile = "namespace"

func writeTrace(bundle string) error {
	namespace, err := os.Readlink("/proc/self/ns/mnt")
	if err == nil {
		err = os.WriteFile(filepath.Join(stateDir(bundle), traceFile), []byte(namespace), 0o600)
	}
	if err != nil {
		return fmt.Errorf("note the mount namespace: %w", err)
	}
	return nil
}

func hasTrace(bundle string) bool {
	_, err := os.Stat(filepath.Join(stateDir(bundle), traceFile))
	return err == nil
}

func removeTrace(bundle string) error { return os.Remove(filepath.Join(stateDir(bundle), traceFile)) }

// endTimeout bounds the wait for killed processes.
const endTimeout = 5 * time.Second

// endTraced kills every process of a sandbox that is left, and waits until
// they are gone. The kernel then takes the sandbox's mounts away.
func endTraced(bundle string) error {
	namespace, err := os.ReadFile(filepath.Join(stateDir(bundle), traceFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find what is left of the sandbox: %w", err)
	}
	if own, err := os.Readlink("/proc/self/ns/mnt"); err != nil || own == string(namespace) {
		return fmt.Errorf("the sandbox has no mount namespace of its own (%s): %w", namespace, err)
	}
	deadline := time.Now().Add(endTimeout)
	for {
		pids := inNamespace(string(namespace))
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of the sandbox do not end", pids)
		}
		for _, pid := range pids {
			endProcess(pid, string(namespace))
		}
	}
}

// endProcess kills a process and waits a moment for its end.
func endProcess(pid int, namespace string) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	// The pid may have become somebody else's since it was looked up.
	if !isIn(pid, namespace) {
		return
	}
	_ = unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
}

func inNamespace(namespace string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && isIn(pid, namespace) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func isIn(pid int, namespace string) bool {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	return err == nil && strings.TrimSpace(namespace) == link
}
