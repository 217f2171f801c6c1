package podman

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/imagetest"
)

// insideEnv says that this process is in namespaces of its own.
const insideEnv = "DOUGONG_TEST_INSIDE"

// suite is what all tests share.
var suite struct{ bin, base string }

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("skipped: Podman's containers are root's")
		return
	}
	code, err := runSuite(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/podman:", err)
		code = 1
	}
	os.Exit(code)
}

func runSuite(m *testing.M) (int, error) {
	if os.Getenv(insideEnv) == "" {
		return again()
	}
	if err := prepare(); err != nil {
		return 1, err
	}
	code := m.Run()
	return code, leave()
}

// again runs these tests in namespaces of their own.
func again() (int, error) {
	base, err := os.MkdirTemp("", "dougong-podman-")
	if err != nil {
		return 1, err
	}
	// Not below the working directory, which a mount may cover.
	defer os.RemoveAll(base)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"="+base)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// prepare gives the tests a place of their own for everything.
func prepare() error {
	suite.base = os.Getenv(insideEnv)
	if suite.bin = os.Getenv("DOUGONG_BIN"); suite.bin == "" {
		suite.bin = "../../_build/bin"
	}
	var err error
	if suite.bin, err = filepath.Abs(suite.bin); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, dir := range []string{"/run/dougong", "/run/netns", "/run/libpod"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("cover %s: %w", dir, err)
		}
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	image := filepath.Join(suite.base, "busybox")
	if err := imagetest.BusyboxLayout(image, "/bin/busybox"); err != nil {
		return err
	}
	id, err := podman("pull", "--quiet", "oci:"+image+":latest")
	if err != nil {
		return err
	}
	_, err = podman("tag", id, "localhost/busybox")
	return err
}

// leave removes what the tests have made, and tells what is left that should
// not be.
func leave() error {
	_, err := podman("rm", "--all", "--force", "--time", "0")
	if left := leftovers(); len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("left behind: %s", strings.Join(left, "\n  ")))
	}
	// Podman's own mount of its store.
	_ = unix.Unmount(filepath.Join(suite.base, "root", "overlay"), unix.MNT_DETACH)
	for _, pattern := range []string{"/sys/fs/cgroup/*/libpod_parent/*", "/sys/fs/cgroup/*/libpod_parent"} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			// Somebody else's are not empty.
			_ = os.Remove(dir)
		}
	}
	return err
}

// command is Podman's, with a store of its own.
func command(args ...string) *exec.Cmd {
	return exec.Command("podman", append([]string{
		"--root", filepath.Join(suite.base, "root"), "--runroot", filepath.Join(suite.base, "run"), "--tmpdir", filepath.Join(suite.base, "tmp"),
		"--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", filepath.Join(suite.bin, "dougong"),
	}, args...)...)
}

// podman runs a command and returns what it prints, without the line's end.
func podman(args ...string) (string, error) {
	var out, errs strings.Builder
	cmd := command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("podman %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}
