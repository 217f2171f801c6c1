// Package erofstest mounts EROFS images for tests and checks them with
// fsck.erofs. It is for tests only.
package erofstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Mount mounts an image read-only and gives the path of its root. The mount is
// detached: no mount table ever shows it, and the kernel takes it away with
// the test process however that ends. The test is skipped without root.
func Mount(t testing.TB, image string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	loop := attach(t, image)
	defer loop.Close()
	fd, err := mount(loop.Name())
	if err != nil {
		t.Fatalf("mount %s: %v", image, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

func mount(device string) (int, error) {
	fs, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.FsconfigSetString(fs, "source", device); err != nil {
		return -1, fmt.Errorf("set source: %w", err)
	}
	if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
		return -1, fmt.Errorf("set ro: %w", err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("create superblock: %w", err)
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
}

// attach gives a loop device that vanishes with its last user.
func attach(t testing.TB, image string) *os.File {
	t.Helper()
	back, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no loop devices: %v", err)
	}
	defer ctl.Close()
	for range 50 { // another process may take the free one first
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatalf("find a loop device: %v", err)
		}
		loop, err := os.Open(fmt.Sprintf("/dev/loop%d", n))
		if err != nil {
			t.Fatal(err)
		}
		config := unix.LoopConfig{Fd: uint32(back.Fd())}
		config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			t.Fatalf("attach %s: %v", image, err)
		}
	}
	t.Fatal("every free loop device was taken by somebody else")
	return nil
}

// Check runs fsck.erofs over an image where the tool is installed.
func Check(t testing.TB, image string) {
	t.Helper()
	tool, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Log("fsck.erofs is not installed: image not checked by it")
		return
	}
	if out, err := exec.Command(tool, "--extract", image).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs %s: %v\n%s", image, err, out)
	}
}
