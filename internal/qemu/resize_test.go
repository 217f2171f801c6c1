package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dougong.dev/dougong/internal/qmp"
	"dougong.dev/dougong/internal/qmp/qmptest"
	"dougong.dev/dougong/internal/vmm"
)

// growing is a machine with room, whose guest does nothing about it.
func growing(t *testing.T, accelerator vmm.Accelerator) *Machine {
	t.Helper()
	spec := tinyMachine(t, "up", hang)
	spec.CPUs, spec.MaxCPUs, spec.MemoryMiB, spec.MaxMemoryMiB = 1, 3, 128, 128+2*memoryStepMiB+1
	// Emulated CPUs are all there from the beginning, unless somebody asks QEMU
	// for those of a virtualized machine.
	script := "#!/bin/sh\nfor a; do shift; case $a in cpus=3,*) a=${a#cpus=3}; a=cpus=1$a;; esac; set -- \"$@\" \"$a\"; done\nexec qemu-system-x86_64 \"$@\"\n"
	binary := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(binary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := Start(t.Context(), Config{Binary: binary}, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	m.spec.Accelerator = accelerator
	return m
}

// brief is enough for QEMU, and for a guest that does not answer.
func brief(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestSetCPUs(t *testing.T) {
	m := growing(t, vmm.KVM)
	for _, want := range []int{1, 2, 3, 3} {
		if has, err := m.SetCPUs(t.Context(), want); has != want || err != nil {
			t.Fatalf("%d CPUs, %v; want %d", has, err, want)
		}
		if _, taken, err := m.cpuPlaces(t.Context()); taken != want || err != nil {
			t.Fatalf("QEMU has %d CPUs, %v; want %d", taken, err, want)
		}
	}
	if has, err := m.SetCPUs(t.Context(), 4); has != 3 || err == nil || !strings.Contains(err.Error(), "room for 3") {
		t.Errorf("more than there is room for: %d, %v", has, err)
	}
	// This guest has no idea that a CPU could go, which QEMU says.
	if has, err := m.SetCPUs(brief(t), 1); has != 3 || err == nil || !strings.Contains(err.Error(), "unplug cpu2") {
		t.Errorf("%d CPUs, %v; want 3", has, err)
	}
}

func TestPullCPU(t *testing.T) {
	deleted := `{"device":"cpu2","path":"/machine/peripheral/cpu2"}`
	for name, c := range map[string]struct {
		event, data string
		gone        bool
	}{
		"agreed":  {"DEVICE_DELETED", deleted, true},
		"refused": {"DEVICE_UNPLUG_GUEST_ERROR", deleted, false},
		"silent":  {"DEVICE_DELETED", `{"path":"/machine/peripheral/cpu2/other"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			server, conn := qmptest.New(t)
			client := qmp.New(conn)
			t.Cleanup(func() { _ = client.Close() })
			if _, err := client.Handshake(t.Context()); err != nil {
				t.Fatal(err)
			}
			server.Handle("device_del", func(qmptest.Call) (any, error) {
				server.Event("DEVICE_DELETED", `{"device":"cpu1","path":"/machine/peripheral/cpu1"}`)
				server.Event(c.event, c.data)
				return nil, nil
			})
			if gone, err := (&Machine{qmp: client}).pullCPU(brief(t), "cpu2"); gone != c.gone || err != nil {
				t.Errorf("gone is %v, %v", gone, err)
			}
		})
	}
}

func TestSetEmulatedCPUs(t *testing.T) {
	m := growing(t, vmm.TCG)
	if has, err := m.SetCPUs(t.Context(), 2); has != 2 || err != nil {
		t.Errorf("%d CPUs, %v", has, err)
	}
	if _, err := m.SetCPUs(t.Context(), 4); err == nil {
		t.Error("there are more CPUs than there can be")
	}
	if _, taken, err := m.cpuPlaces(t.Context()); taken != 1 || err != nil {
		t.Errorf("an emulated CPU was plugged in: %d, %v", taken, err)
	}
}

func TestSetMemory(t *testing.T) {
	m := growing(t, vmm.TCG)
	if has, err := m.SetMemory(brief(t), 200); has != 128 || err != nil {
		t.Errorf("a guest without a driver has %d MiB, %v", has, err)
	}
	var asked int64
	if err := m.qmp.Execute(t.Context(), "qom-get", map[string]any{"path": growthPath, "property": "requested-size"}, &asked); err != nil || asked != memoryStepMiB<<20 {
		t.Errorf("the guest is asked for %d more bytes, %v; want a whole block", asked, err)
	}
	if has, err := m.SetMemory(t.Context(), 100); has != 128 || err != nil {
		t.Errorf("less than it began with: %d MiB, %v", has, err)
	}
	if _, err := m.SetMemory(t.Context(), 128+2*memoryStepMiB+1); err == nil || !strings.Contains(err.Error(), fmt.Sprint(128+2*memoryStepMiB)) {
		t.Errorf("more than there is room for: %v", err)
	}
	m.Kill()
	if _, err := m.SetMemory(t.Context(), 200); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of a machine that is gone: %v", err)
	}
}

func TestSetMemoryWithoutRoom(t *testing.T) {
	m, err := Start(t.Context(), Config{}, tinyMachine(t, "up", hang))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	is := m.spec.MemoryMiB
	if has, err := m.SetMemory(t.Context(), is); has != is || err != nil {
		t.Errorf("%d MiB, %v", has, err)
	}
	if _, err := m.SetMemory(t.Context(), is+1); err == nil {
		t.Error("it has grown without room")
	}
}
