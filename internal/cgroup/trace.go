package cgroup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// traceFile, in a sandbox's directory, lists the directories of its cgroup as
// long as there are any.
const traceFile = "cgroup.json"

func writeTrace(dir string, paths map[string]string) error {
	var dirs []string
	for _, path := range paths {
		if path != "" {
			dirs = append(dirs, path)
		}
	}
	slices.Sort(dirs)
	data, err := json.Marshal(dirs)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, traceFile), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note the cgroup: %w", err)
	}
	return nil
}

func removeTrace(dir string) error {
	if err := os.Remove(filepath.Join(dir, traceFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the cgroup: %w", err)
	}
	return nil
}

// endTimeout is how long processes of a sandbox may take to end that have lost
// the one that started them, and with it were killed.
const endTimeout = 5 * time.Second

// Clear removes the cgroup of a sandbox whose process is gone, by what is noted
// in the sandbox's directory. It waits for processes that are ending.
func Clear(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, traceFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find what is left of the cgroup: %w", err)
	}
	var dirs []string
	if err := json.Unmarshal(data, &dirs); err != nil {
		return fmt.Errorf("find what is left of the cgroup: %s: %w", traceFile, err)
	}
	deadline := time.Now().Add(endTimeout)
	var errs []error
	for _, d := range dirs {
		if err := removeBy(deadline, d); err != nil {
			errs = append(errs, fmt.Errorf("remove cgroup: %w", err))
		}
	}
	if err := errors.Join(append(errs, removeParents(dirs))...); err != nil {
		return err
	}
	return removeTrace(dir)
}

// removeBy removes a cgroup, again and again as long as it has processes. Each
// try takes a while of its own.
func removeBy(deadline time.Time, dir string) error {
	for {
		err := cgroups.RemovePath(dir)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}
