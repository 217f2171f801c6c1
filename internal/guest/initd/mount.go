package initd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// enterRoot puts a mount between us and the initramfs's own root, which the
// kernel does not let anybody pivot away from, and containers must.
func enterRoot() error {
	const staging = "/mnt"
	if err := unix.Mount("/", staging, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the root: %w", err)
	}
	if err := unix.Chdir(staging); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := unix.Mount(staging, "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	return unix.Chdir("/")
}

// mountPoint is one of the guest's own file systems.
type mountPoint struct {
	kind, target string
	flags        uintptr
	data         string
}

const strict = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

var mountPoints = []mountPoint{
	{"proc", "/proc", strict, ""},
	{"sysfs", "/sys", strict, ""},
	{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
	{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
	{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"cgroup2", cgroupRoot, strict, ""},
}

func mountAll() error {
	for _, m := range mountPoints {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", m.target, err)
		}
		if err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
		}
	}
	return linkDevices("/dev")
}

// linkDevices makes the links that programs expect beside the devices: crun
// reads new limits from /dev/stdin.
func linkDevices(dev string) error {
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return fmt.Errorf("make links in %s: %w", dev, err)
		}
	}
	return nil
}

// containerRuntime must not be written to by way of /proc/PID/exe, which a
// container can reach.
const containerRuntime = "/usr/bin/crun"

// protectRuntime mounts the container runtime read-only over itself.
func protectRuntime(path string) error {
	if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", path, err)
	}
	if err := unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", path, err)
	}
	return nil
}

// enableControllers lets child cgroups have every controller there is.
func enableControllers(root string) error {
	list, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("list cgroup controllers: %w", err)
	}
	var all strings.Builder
	for controller := range strings.FieldsSeq(string(list)) {
		fmt.Fprintf(&all, "+%s ", controller)
	}
	if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte(all.String()), 0o644); err != nil {
		return fmt.Errorf("enable cgroup controllers %s: %w", all.String(), err)
	}
	return nil
}
