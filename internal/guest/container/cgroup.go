package container

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroup is the directory of a container's cgroup, version 2; empty when it
// has none.
type cgroup string

// cgroupOf finds the cgroup of a process. A process in the root has none that
// could be killed or counted for it alone.
func cgroupOf(pid int) cgroup {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if ok && path != "/" && !strings.HasPrefix(path, "/..") {
			return cgroup(filepath.Join(cgroupRoot, path))
		}
	}
	return ""
}

// kill kills every process of the cgroup and of those below it.
func (c cgroup) kill() error {
	if c == "" {
		return nil
	}
	err := os.WriteFile(filepath.Join(string(c), "cgroup.kill"), []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	return nil
}

func (c cgroup) pids() ([]int, error) {
	var pids []int
	err := filepath.WalkDir(string(c), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return err
		}
		for field := range strings.FieldsSeq(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return fmt.Errorf("read process ids: %w", err)
			}
			pids = append(pids, pid)
		}
		return nil
	})
	return pids, err
}

// metrics reads what the kernel counts. Files of controllers that are not
// there are left out.
func (c cgroup) metrics() *stats.Metrics {
	cpu, memory, events := c.pairs("cpu.stat"), c.pairs("memory.stat"), c.pairs("memory.events")
	return &stats.Metrics{
		Pids: &stats.PidsStat{Current: c.number("pids.current"), Limit: c.number("pids.max")},
		CPU: &stats.CPUStat{
			UsageUsec: cpu["usage_usec"], UserUsec: cpu["user_usec"], SystemUsec: cpu["system_usec"],
			NrPeriods: cpu["nr_periods"], NrThrottled: cpu["nr_throttled"], ThrottledUsec: cpu["throttled_usec"],
		},
		Memory: c.memory(memory),
		MemoryEvents: &stats.MemoryEvents{
			Low: events["low"], High: events["high"], Max: events["max"],
			Oom: events["oom"], OomKill: events["oom_kill"],
		},
		Io: &stats.IOStat{Usage: c.io()},
	}
}

func (c cgroup) memory(m map[string]uint64) *stats.MemoryStat {
	return &stats.MemoryStat{
		Anon: m["anon"], File: m["file"], KernelStack: m["kernel_stack"], Slab: m["slab"], Sock: m["sock"],
		Shmem: m["shmem"], FileMapped: m["file_mapped"], FileDirty: m["file_dirty"],
		FileWriteback: m["file_writeback"], AnonThp: m["anon_thp"],
		InactiveAnon: m["inactive_anon"], ActiveAnon: m["active_anon"],
		InactiveFile: m["inactive_file"], ActiveFile: m["active_file"], Unevictable: m["unevictable"],
		SlabReclaimable: m["slab_reclaimable"], SlabUnreclaimable: m["slab_unreclaimable"],
		Pgfault: m["pgfault"], Pgmajfault: m["pgmajfault"],
		Usage: c.number("memory.current"), UsageLimit: c.number("memory.max"),
		SwapUsage: c.number("memory.swap.current"), SwapLimit: c.number("memory.swap.max"),
		MaxUsage: c.number("memory.peak"),
	}
}

// number reads a file of one number; "max" and a missing file are what
// containerd makes of them too: the largest number and 0.
func (c cgroup) number(name string) uint64 {
	data, err := os.ReadFile(filepath.Join(string(c), name))
	if err != nil {
		return 0
	}
	return parseNumber(strings.TrimSpace(string(data)))
}

func parseNumber(s string) uint64 {
	if s == "max" {
		return 1<<64 - 1
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (c cgroup) pairs(name string) map[string]uint64 {
	data, _ := os.ReadFile(filepath.Join(string(c), name))
	m := make(map[string]uint64)
	for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); {
		if key, value, ok := strings.Cut(scan.Text(), " "); ok {
			m[key] = parseNumber(value)
		}
	}
	return m
}

// io reads io.stat: "major:minor key=value…" for each device.
func (c cgroup) io() []*stats.IOEntry {
	data, _ := os.ReadFile(filepath.Join(string(c), "io.stat"))
	var entries []*stats.IOEntry
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		major, minor, ok := strings.Cut(fields[0], ":")
		if !ok {
			continue
		}
		m := make(map[string]uint64)
		for _, f := range fields[1:] {
			key, value, _ := strings.Cut(f, "=")
			m[key] = parseNumber(value)
		}
		entries = append(entries, &stats.IOEntry{
			Major: parseNumber(major), Minor: parseNumber(minor),
			Rbytes: m["rbytes"], Wbytes: m["wbytes"], Rios: m["rios"], Wios: m["wios"],
		})
	}
	return entries
}
