package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dougong.dev/dougong/internal/engine"
)

const (
	// idleMemory is the memory of the sandbox whose host memory is promised.
	idleMemory = "256m"
	// settleTime is how long a sandbox is left alone before that is measured.
	settleTime = 12 * time.Second
	// readingsEvery is the time between two readings of it.
	readingsEvery = 250 * time.Millisecond
)

// memoryRows name the rows of a sandbox's memory; empty ones are left out.
type memoryRows struct{ all, shim, qemu string }

var (
	idleRows   = memoryRows{rowIdle, rowShimPSS, rowQEMUPSS}
	bootedRows = memoryRows{all: rowIdleBooted}
)

// measureIdle reads the host memory of one idle sandbox.
func (l *lab) measureIdle(ctx context.Context, runs int, out *series, rows memoryRows, flags ...string) (err error) {
	const name = "bench-idle"
	c, err := l.start(ctx, name, l.ref, append(flags, "--memory", idleMemory)...)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, c.stop()) }()
	pid, err := l.sandboxPID(ctx, name)
	if err != nil {
		return err
	}
	wait := settleTime
	for range runs {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := readSandbox(pid, out, rows); err != nil {
			return err
		}
		wait = readingsEvery
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// sandboxPID is the sandbox process of a container.
func (l *lab) sandboxPID(ctx context.Context, name string) (int, error) {
	dir, err := l.root.Find(name)
	if err != nil {
		return 0, err
	}
	status, err := (&engine.Engine{Root: l.root}).Status(ctx, dir)
	if err != nil {
		return 0, err
	}
	if status.PID == 0 {
		return 0, fmt.Errorf("sandbox process of container %s does not answer", name)
	}
	return status.PID, nil
}

// readSandbox adds up the memory of a sandbox process and all below it.
func readSandbox(pid int, out *series, rows memoryRows) error {
	parents, err := parents("/proc")
	if err != nil {
		return err
	}
	total := 0.0
	for _, p := range tree(parents, pid) {
		pss, err := proportionalSet(filepath.Join("/proc", strconv.Itoa(p), "smaps_rollup"))
		if err != nil {
			return fmt.Errorf("memory of process %d: %w", p, err)
		}
		total += pss
		switch {
		case p == pid && rows.shim != "":
			out.add(rows.shim, pss)
		case strings.HasPrefix(processName(p), "qemu") && rows.qemu != "":
			out.add(rows.qemu, pss)
		}
	}
	out.add(rows.all, total)
	return nil
}

func processName(pid int) string {
	data, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	return strings.TrimSpace(string(data))
}

// parents maps every process to its parent.
func parents(proc string) (map[int]int, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := make(map[int]int)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join(proc, e.Name(), "stat"))
		if err != nil {
			continue // It has ended.
		}
		// The second field is a name in parentheses, which may hold anything.
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		if all[pid], err = strconv.Atoi(fields[1]); err != nil {
			delete(all, pid)
		}
	}
	return all, nil
}

// tree lists a process and all processes below it.
func tree(parents map[int]int, root int) []int {
	found := []int{root}
	for i := 0; i < len(found); i++ {
		for pid, parent := range parents {
			if parent == found[i] {
				found = append(found, pid)
			}
		}
	}
	slices.Sort(found)
	return found
}

// proportionalSet reads the PSS, in megabytes, of a smaps_rollup file: memory
// that several processes share counts in each by its part.
func proportionalSet(path string) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 3 && fields[0] == "Pss:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			return kib * 1024 / megabyte, err
		}
	}
	return 0, fmt.Errorf("%s has no Pss", path)
}

// measureSizes reads the sizes of files.
func (l *lab) measureSizes(out *series) {
	beside := filepath.Dir(l.command)
	for _, f := range []struct {
		row, path string
		unit      float64
	}{
		{rowInitramfs, l.cfg.VM.Initrd, megabyte},
		{rowDougong, l.command, mebibyte},
		{rowShim, filepath.Join(beside, "containerd-shim-dougong-v2"), mebibyte},
		{rowAgent, filepath.Join(beside, "dougong-agent"), mebibyte},
	} {
		info, err := os.Stat(f.path)
		if err != nil {
			out.missing[f.row] = err.Error()
			continue
		}
		out.add(f.row, float64(info.Size())/f.unit)
	}
}
