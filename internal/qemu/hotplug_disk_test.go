package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"dougong.dev/dougong/internal/qmp"
	"dougong.dev/dougong/internal/vmm"
)

// disk is one of a megabyte, open as it has to be.
func disk(t *testing.T, serial string, readOnly bool) vmm.Disk {
	t.Helper()
	path := filepath.Join(t.TempDir(), serial)
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return vmm.Disk{Serial: serial, File: f, ReadOnly: readOnly}
}

// nodes are the names of the block nodes that a machine has.
func nodes(t *testing.T, m *Machine) []string {
	t.Helper()
	var list []struct {
		Name string `json:"node-name"`
	}
	if err := m.qmp.Execute(deadline(t), "query-named-block-nodes", nil, &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range list {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	return names
}

// A guest that does not let go of disks keeps them, and the port behind which
// they are.
func TestDisksThatAGuestKeeps(t *testing.T) {
	m := start(t, Config{}, tinyMachine(t, "up", hang))
	set, err := m.AttachDisks(deadline(t), []vmm.Disk{disk(t, "a", true), disk(t, "b", false)})
	if err != nil {
		t.Fatal(err)
	}
	if got := nodes(t, m); len(got) != 2 {
		t.Errorf("block nodes are %q", got)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := m.DetachDisks(short, set); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("detaching gives %v", err)
	}
	if free := len(m.slots.free); free != HotplugPorts-1 {
		t.Errorf("%d ports are free", free)
	}
}

// Disks that cannot all be attached leave nothing, those before the first
// function, which the guest has not seen, included.
func TestAttachDisksUnwinds(t *testing.T) {
	m := start(t, Config{}, tinyMachine(t, "up", hang))
	wrong := disk(t, "wrong", true)
	wrong.ReadOnly = false
	if _, err := m.AttachDisks(deadline(t), []vmm.Disk{wrong}); err == nil {
		t.Error("a file that is open for reading only is taken for a writable disk")
	}
	if got := nodes(t, m); len(got) != 0 {
		t.Errorf("block nodes %q are left", got)
	}
	if free := len(m.slots.free); free != HotplugPorts {
		t.Errorf("%d ports are free", free)
	}
	for _, n := range []int{0, DisksPerPort + 1} {
		if _, err := m.AttachDisks(deadline(t), make([]vmm.Disk, n)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%d disks give %v", n, err)
		}
	}
	for range HotplugPorts {
		if _, err := m.AttachDisks(deadline(t), []vmm.Disk{disk(t, "a", true)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.AttachDisks(deadline(t), []vmm.Disk{disk(t, "a", true)}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("without a free port: %v", err)
	}
}

func TestDiskNode(t *testing.T) {
	hot := hotDisk{number: 1001}
	want := map[string]any{
		"driver": "file", "node-name": "disk1001", "filename": "/dev/fdset/1001", "auto-read-only": false, "read-only": true, "locking": "off",
	}
	if diff := cmp.Diff(want, diskNode(hot, vmm.Disk{ReadOnly: true}, false)); diff != "" {
		t.Error(diff)
	}
	want = map[string]any{
		"driver": "host_device", "node-name": "disk1001", "filename": "/dev/fdset/1001", "auto-read-only": false, "read-only": false, "discard": "unmap",
	}
	if diff := cmp.Diff(want, diskNode(hot, vmm.Disk{}, true)); diff != "" {
		t.Error(diff)
	}
}

func TestDeletedDevice(t *testing.T) {
	for data, want := range map[string]string{`{"device":"a","path":"/x"}`: "a", `{"path":"/x"}`: "", `[]`: ""} {
		if got := deletedDevice(qmp.Event{Name: "DEVICE_DELETED", Data: []byte(data)}); got != want {
			t.Errorf("%s is about %q, want %q", data, got, want)
		}
	}
	if got := deletedDevice(qmp.Event{Name: "RESET", Data: []byte(`{"device":"a"}`)}); got != "" {
		t.Errorf("another event is about %q", got)
	}
}

func TestMorePorts(t *testing.T) {
	seen := map[int]bool{}
	for port := range 12 {
		if seen[chassis(port)] {
			t.Errorf("port %d has the chassis of another", port)
		}
		seen[chassis(port)] = true
	}
	if n := hotplugPorts(vmm.MachineSpec{}); n != HotplugPorts {
		t.Errorf("a machine has %d ports", n)
	}
	if n := len(newSlots(vmm.MachineSpec{HotplugPorts: 12}).free); n != 12 {
		t.Errorf("a machine with 12 ports has %d free ones", n)
	}
}
