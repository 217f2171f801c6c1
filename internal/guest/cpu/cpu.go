// Package cpu says which of the machine's CPUs are used: the kernel finds those
// that are plugged in by itself, and waits to be told.
//
// It owns the switches in sysfs. How many there are is the host's matter.
package cpu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// waiter waits for devices to come: device.Finder.
type waiter interface {
	Await(ctx context.Context, try func() (bool, error)) error
}

// maxCPUs is what no guest kernel has.
const maxCPUs = 1 << 13

// Use puts the first count CPUs below sys to use, waiting for those that are
// still to come, and no others.
func Use(ctx context.Context, w waiter, sys string, count uint32) error {
	if count < 1 || count > maxCPUs {
		return fmt.Errorf("use %d CPUs: want 1 to %d", count, maxCPUs)
	}
	var there []cpu
	err := w.Await(ctx, func() (bool, error) {
		var err error
		there, err = list(sys)
		return uint32(len(there)) >= count, err
	})
	if err != nil {
		return fmt.Errorf("wait for %d CPUs, of which %d have come: %w", count, len(there), err)
	}
	for i, c := range there {
		if err := c.set(uint32(i) < count); err != nil {
			return err
		}
	}
	return nil
}

// cpu is one CPU of the machine.
type cpu struct {
	number int
	dir    string
}

// list returns the CPUs that there are, by their numbers.
func list(sys string) ([]cpu, error) {
	dirs, err := filepath.Glob(filepath.Join(sys, "devices/system/cpu/cpu[0-9]*"))
	if err != nil {
		return nil, err
	}
	var all []cpu
	for _, dir := range dirs {
		if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "cpu")); err == nil {
			all = append(all, cpu{n, dir})
		}
	}
	slices.SortFunc(all, func(a, b cpu) int { return a.number - b.number })
	return all, nil
}

// set switches a CPU on or off. The first one has no switch, and is on.
func (c cpu) set(on bool) error {
	path, want := filepath.Join(c.dir, "online"), "0"
	if on {
		want = "1"
	}
	state, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(state)) == want {
		return nil
	}
	if err == nil {
		err = os.WriteFile(path, []byte(want), 0)
	}
	if err != nil {
		return fmt.Errorf("switch CPU %d: %w", c.number, err)
	}
	return nil
}
