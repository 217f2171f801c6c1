package qemu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dougong.dev/dougong/internal/qmp"
	"dougong.dev/dougong/internal/vmm"
)

// memoryStepMiB is what memory is plugged in and out in: what Linux calls a
// block of memory.
const memoryStepMiB = 128

// growthPath is where QEMU keeps what is known of the device for memory.
const growthPath = "/machine/peripheral/" + growthDevice

// MemoryMiB is the guest's memory now, with what was plugged in.
func (m *Machine) MemoryMiB(ctx context.Context) (int, error) {
	if growth(m.spec) == 0 {
		return m.spec.MemoryMiB, nil
	}
	var bytes int64
	if err := m.qmp.Execute(ctx, "qom-get", map[string]any{"path": growthPath, "property": "size"}, &bytes); err != nil {
		return 0, fmt.Errorf("ask for the size of the memory: %w", err)
	}
	return m.spec.MemoryMiB + int(bytes>>20), nil
}

// SetMemory asks the guest to have this much memory, at least what it started
// with, and at most what there is room for; it is rounded up to whole blocks. It
// returns how much the guest has when it has done so, or when ctx ends, which is
// no error: a guest that is asked for memory gives what it can do without.
func (m *Machine) SetMemory(ctx context.Context, mib int) (int, error) {
	more := (max(mib-m.spec.MemoryMiB, 0) + memoryStepMiB - 1) / memoryStepMiB * memoryStepMiB
	if more > growth(m.spec) {
		return 0, fmt.Errorf("%d MiB of memory: the machine has room for %d", mib, m.spec.MemoryMiB+growth(m.spec))
	}
	if growth(m.spec) == 0 {
		return m.spec.MemoryMiB, nil
	}
	listening, cancel := context.WithCancel(ctx)
	defer cancel()
	events := m.qmp.Events(listening)
	request := map[string]any{"path": growthPath, "property": "requested-size", "value": int64(more) << 20}
	if err := m.qmp.Execute(ctx, "qom-set", request, nil); err != nil {
		return 0, fmt.Errorf("set the size of the memory: %w", err)
	}
	for {
		// Events are no more than a reason to ask.
		has, err := m.MemoryMiB(context.WithoutCancel(ctx))
		if err != nil || has == m.spec.MemoryMiB+more {
			return has, err
		}
		if !await(events, func(e qmp.Event) bool { return e.Name == "MEMORY_DEVICE_SIZE_CHANGE" }) {
			return has, nil
		}
	}
}

// await reports whether an event came that is looked for.
func await(events <-chan qmp.Event, is func(qmp.Event) bool) bool {
	for e := range events {
		if is(e) {
			return true
		}
	}
	return false
}

// hotCPU is a place for a CPU, as QEMU tells of it.
type hotCPU struct {
	Type  string         `json:"type"`
	Props map[string]int `json:"props"`
	// Path is set where there is a CPU.
	Path string `json:"qom-path"`
}

// id is the name of a CPU that was plugged in.
func (c hotCPU) id() string { return fmt.Sprintf("cpu%d", c.Props["socket-id"]) }

// pluggedIn says that the CPU was not there from the beginning.
func (c hotCPU) pluggedIn() bool { return strings.HasSuffix(c.Path, "/"+c.id()) }

// cpuPlaces lists all places, in the order of their numbers.
func (m *Machine) cpuPlaces(ctx context.Context) (places []hotCPU, taken int, err error) {
	if err := m.qmp.Execute(ctx, "query-hotpluggable-cpus", nil, &places); err != nil {
		return nil, 0, fmt.Errorf("ask for the CPUs: %w", err)
	}
	slices.SortFunc(places, func(a, b hotCPU) int { return a.Props["socket-id"] - b.Props["socket-id"] })
	for _, p := range places {
		if p.Path != "" {
			taken++
		}
	}
	return places, taken, nil
}

// SetCPUs plugs CPUs in, or out, until the machine has count of them, and
// returns how many it has. What is plugged in has to be put to use by the guest.
// What is to go, the guest must agree to: that it did not until ctx ended, or said
// so, is no error. Emulated CPUs are all there from the beginning, and none is
// plugged.
func (m *Machine) SetCPUs(ctx context.Context, count int) (int, error) {
	if m.spec.Accelerator == vmm.TCG {
		if most := firstCPUs(m.spec); count > most {
			return most, fmt.Errorf("%d CPUs: the machine has %d", count, most)
		}
		return count, nil
	}
	places, has, err := m.cpuPlaces(ctx)
	if err != nil {
		return 0, err
	}
	if count > len(places) {
		return has, fmt.Errorf("%d CPUs: the machine has room for %d", count, len(places))
	}
	for _, p := range places {
		if has >= count {
			break
		}
		if p.Path != "" {
			continue
		}
		if err := m.plugCPU(ctx, p); err != nil {
			return has, err
		}
		has++
	}
	for _, p := range slices.Backward(places) {
		if has <= count {
			break
		}
		if !p.pluggedIn() {
			continue
		}
		gone, err := m.pullCPU(ctx, p.id())
		if err != nil || !gone {
			return has, err
		}
		has--
	}
	return has, nil
}

func (m *Machine) plugCPU(ctx context.Context, p hotCPU) error {
	device := map[string]any{"driver": p.Type, "id": p.id()}
	for name, value := range p.Props {
		device[name] = value
	}
	if err := m.qmp.Execute(ctx, "device_add", device, nil); err != nil {
		return fmt.Errorf("plug in CPU %d: %w", p.Props["socket-id"], err)
	}
	return nil
}

// pullCPU asks the guest to let a CPU go and reports whether it did.
func (m *Machine) pullCPU(ctx context.Context, id string) (bool, error) {
	listening, cancel := context.WithCancel(ctx)
	defer cancel()
	events := m.qmp.Events(listening)
	err := m.qmp.Execute(ctx, "device_del", map[string]any{"id": id}, nil)
	var refused *qmp.Error
	if errors.As(err, &refused) && strings.Contains(refused.Desc, "already in the process of unplug") {
		err = nil
	}
	if err != nil {
		return false, fmt.Errorf("unplug %s: %w", id, err)
	}
	deleted := false
	await(events, func(e qmp.Event) bool {
		if deviceOf(e) != id {
			return false
		}
		deleted = e.Name == "DEVICE_DELETED"
		return deleted || e.Name == "DEVICE_UNPLUG_GUEST_ERROR"
	})
	return deleted, nil
}
