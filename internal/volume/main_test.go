package volume

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ownMounts marks the process that has a mount namespace of its own.
const ownMounts = "DOUGONG_TEST_OWN_MOUNTS"

// TestMain runs the tests once more in a mount namespace of their own, as root:
// no mount of theirs is ever seen by anybody else, nor stays.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(ownMounts) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), ownMounts+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// needMounts skips a test that cannot mount, and cuts mounts off the host's.
func needMounts(t *testing.T) {
	t.Helper()
	if os.Getenv(ownMounts) == "" {
		t.Skip("making mounts needs root")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
}

func mountAt(t *testing.T, fstype, dir, options string) {
	t.Helper()
	if err := unix.Mount(fstype, dir, fstype, 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
