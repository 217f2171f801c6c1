// Package hosttest finds out what the host of a test lacks, so that a test is
// skipped for that reason and for no other.
//
// It asks the kernel itself and never the code under test, whose faults would look
// like something that the host lacks. Nothing but tests may import it.
package hosttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const cgroups = "/sys/fs/cgroup"

// NeedCgroups skips a test on a host whose cgroups cannot be changed.
func NeedCgroups(t testing.TB) {
	t.Helper()
	top := cgroups
	if _, err := os.Stat(filepath.Join(top, "cgroup.controllers")); err != nil {
		top = filepath.Join(top, "memory")
	}
	probe := filepath.Join(top, fmt.Sprintf("dougong-probe-%d", os.Getpid()))
	if err := os.Mkdir(probe, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Skip("cgroups cannot be changed here:", err)
	}
	_ = os.Remove(probe)
}

// NeedController skips a test on a host without a controller of cgroups.
func NeedController(t testing.TB, name string) {
	t.Helper()
	if all, err := os.ReadFile(filepath.Join(cgroups, "cgroup.controllers")); err == nil {
		if !slices.Contains(strings.Fields(string(all)), name) {
			t.Skipf("there is no controller %s here", name)
		}
		return
	}
	if _, err := os.Stat(filepath.Join(cgroups, name)); err != nil {
		t.Skipf("there is no controller %s here: %v", name, err)
	}
}

// mapping are file systems that can be mounted with the owners of files mapped, on
// every kernel that this project runs on.
var mapping = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC}

// NeedMappedOwners skips a test whose directory is in a file system that may not
// be one of those that can be mounted with the owners of files mapped.
func NeedMappedOwners(t testing.TB, dir string) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(mapping, fs.Type) {
		t.Skipf("%s is neither on ext4 nor on xfs nor on btrfs, but on a file system of type %#x, which may not map owners", dir, fs.Type)
	}
}
