package storage

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// makeDevice makes what the kernel shows of a block device, and its node.
func makeDevice(t *testing.T, ro string) (sys, dev string) {
	t.Helper()
	sys, dev = t.TempDir(), t.TempDir()
	dir := filepath.Join(sys, "dev/block/7:9")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"uevent": "MAJOR=7\nMINOR=9\nDEVNAME=loop9\n", "ro": ro + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mknod(filepath.Join(dev, "loop9"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 9))); err != nil {
		t.Skip("cannot make device nodes: ", err)
	}
	return sys, dev
}

func TestFindDevice(t *testing.T) {
	for ro, want := range map[string]bool{"0": false, "1": true} {
		sys, dev := makeDevice(t, ro)
		got, err := FindDevice(sys, dev, 7, 9)
		if diff := cmp.Diff(Device{Path: filepath.Join(dev, "loop9"), ReadOnly: want}, got); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
		if _, err := FindDevice(sys, dev, 7, 8); err == nil {
			t.Error("a device that is not there is found")
		}
	}
}

func TestFindDeviceIsNotMistaken(t *testing.T) {
	sys, dev := makeDevice(t, "0")
	node := filepath.Join(dev, "loop9")
	if err := os.Remove(node); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(node, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := FindDevice(sys, dev, 7, 9); err == nil {
		t.Errorf("a file is taken for a device: %+v", d)
	}
}

func TestDevicesAreDisks(t *testing.T) {
	plan, err := New(Request{
		ContainerID: "c1", Rootfs: []Mount{{Type: "erofs", Source: "/img"}}, WritableSize: "1m",
		Devices: []Device{{Path: "/dev/a"}, {Path: "/dev/b", ReadOnly: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []Disk{
		{Serial: Serial("c1", 0), Path: "/img", ReadOnly: true},
		{Serial: plan.DeviceSerials[0], Path: "/dev/a"},
		{Serial: plan.DeviceSerials[1], Path: "/dev/b", ReadOnly: true},
	}
	if diff := cmp.Diff(want, plan.Disks); diff != "" || plan.DeviceSerials[0] == plan.DeviceSerials[1] {
		t.Error(diff)
	}
	if n := len(plan.DeviceSerials[1]); n > 20 {
		t.Errorf("a serial number of %d bytes is cut by the disk", n)
	}
}
