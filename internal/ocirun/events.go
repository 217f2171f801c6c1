package ocirun

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"

	"dougong.dev/dougong/internal/engine"
)

// Event is what the command events prints, in runc's form.
type Event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data *Usage `json:"data,omitempty"`
}

// Usage is what a container uses. Times are nanoseconds, sizes bytes.
type Usage struct {
	CPU    CPUUsage    `json:"cpu"`
	Memory MemoryUsage `json:"memory"`
	Pids   PidsUsage   `json:"pids"`
	Blkio  BlkioUsage  `json:"blkio"`
}

// CPUUsage is CPU time since the start.
type CPUUsage struct {
	Usage struct {
		Total  uint64 `json:"total"`
		Kernel uint64 `json:"kernel"`
		User   uint64 `json:"user"`
	} `json:"usage"`
	Throttling struct {
		Periods          uint64 `json:"periods"`
		ThrottledPeriods uint64 `json:"throttledPeriods"`
		ThrottledTime    uint64 `json:"throttledTime"`
	} `json:"throttling"`
}

// MemoryUsage is memory in use now.
type MemoryUsage struct {
	Cache uint64      `json:"cache"`
	Usage MemoryEntry `json:"usage"`
	Swap  MemoryEntry `json:"swap"`
}

// MemoryEntry is one kind of memory with its limit.
type MemoryEntry struct {
	Limit uint64 `json:"limit"`
	Usage uint64 `json:"usage"`
	Max   uint64 `json:"max"`
}

// PidsUsage counts processes.
type PidsUsage struct {
	Current uint64 `json:"current"`
	Limit   uint64 `json:"limit"`
}

// BlkioUsage is what was read and written.
type BlkioUsage struct {
	Bytes      []BlkioEntry `json:"ioServiceBytesRecursive"`
	Operations []BlkioEntry `json:"ioServicedRecursive"`
}

// BlkioEntry is one count of one device.
type BlkioEntry struct {
	Major uint64 `json:"major"`
	Minor uint64 `json:"minor"`
	Op    string `json:"op"`
	Value uint64 `json:"value"`
}

// Events tells what a container uses: once, or again and again until it has
// ended, and then also whenever the kernel had to kill for want of memory.
func (r *Runtime) Events(ctx context.Context, id string, once bool, interval time.Duration, tell func(Event) error) error {
	_, client, err := r.dial(id)
	if err != nil {
		return err
	}
	defer client.Close()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var killed uint64
	for {
		m, err := metrics(ctx, client, id)
		if err != nil {
			if !once && (errdefs.IsNotFound(err) || errdefs.IsUnavailable(err)) {
				return nil
			}
			return err
		}
		if now := m.GetMemoryEvents().GetOomKill(); now > killed {
			killed = now
			if err := tell(Event{Type: "oom", ID: id}); err != nil {
				return err
			}
		}
		if err := tell(Event{Type: "stats", ID: id, Data: usageOf(m)}); err != nil || once {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func metrics(ctx context.Context, c *engine.Client, id string) (*stats.Metrics, error) {
	resp, err := c.Task.Stats(ctx, &task.StatsRequest{ID: id})
	if err != nil {
		return nil, fmt.Errorf("count what container %s uses: %w", id, err)
	}
	m := new(stats.Metrics)
	if err := proto.Unmarshal(resp.GetStats().GetValue(), m); err != nil {
		return nil, fmt.Errorf("count what container %s uses: %w", id, err)
	}
	return m, nil
}

func usageOf(m *stats.Metrics) *Usage {
	u := &Usage{}
	cpu, memory := m.GetCPU(), m.GetMemory()
	const us = uint64(time.Microsecond)
	u.CPU.Usage.Total, u.CPU.Usage.Kernel, u.CPU.Usage.User = us*cpu.GetUsageUsec(), us*cpu.GetSystemUsec(), us*cpu.GetUserUsec()
	u.CPU.Throttling.Periods, u.CPU.Throttling.ThrottledPeriods = cpu.GetNrPeriods(), cpu.GetNrThrottled()
	u.CPU.Throttling.ThrottledTime = us * cpu.GetThrottledUsec()
	u.Memory.Cache = memory.GetFile()
	u.Memory.Usage = MemoryEntry{Limit: memory.GetUsageLimit(), Usage: memory.GetUsage(), Max: memory.GetMaxUsage()}
	u.Memory.Swap = MemoryEntry{Limit: memory.GetSwapLimit(), Usage: memory.GetSwapUsage()}
	u.Pids = PidsUsage{Current: m.GetPids().GetCurrent(), Limit: m.GetPids().GetLimit()}
	for _, e := range m.GetIo().GetUsage() {
		entry := func(op string, value uint64) BlkioEntry {
			return BlkioEntry{Major: e.Major, Minor: e.Minor, Op: op, Value: value}
		}
		u.Blkio.Bytes = append(u.Blkio.Bytes, entry("Read", e.Rbytes), entry("Write", e.Wbytes))
		u.Blkio.Operations = append(u.Blkio.Operations, entry("Read", e.Rios), entry("Write", e.Wios))
	}
	return u
}
