// Package enclave runs a test's binary once more in namespaces of mounts and of
// network of its own, so that the container engines which it starts meet
// nothing of the machine's user.
//
// It owns these namespaces and the directory that goes with them. What is done
// in them is the test's matter.
package enclave

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideEnv has the directory of the enclave in the process that is inside.
const insideEnv = "DOUGONG_TEST_ENCLAVE"

// Enclave is where tests run.
type Enclave struct {
	// Base is a directory for everything that the tests make, Bin has the
	// binaries that are tested.
	Base, Bin string
}

// Main is a TestMain: prepare and leave are called before and after the tests,
// inside. covered are directories that are empty there.
func Main(m *testing.M, name string, covered []string, prepare func(Enclave) error, leave func() error) {
	if os.Geteuid() != 0 {
		fmt.Println("skipped: containers are root's")
		return
	}
	code, err := run(m, name, covered, prepare, leave)
	if err != nil {
		fmt.Fprintf(os.Stderr, "test/%s: %v\n", name, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M, name string, covered []string, prepare func(Enclave) error, leave func() error) (int, error) {
	if os.Getenv(insideEnv) == "" {
		return again(name)
	}
	e, err := enter(covered)
	if err != nil {
		return 1, err
	}
	if err := prepare(e); err != nil {
		return 1, errors.Join(err, leave())
	}
	code := m.Run()
	return code, leave()
}

// again runs this process's program inside.
func again(name string) (code int, err error) {
	base, err := os.MkdirTemp("", "dougong-"+name+"-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
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

// enter makes the namespaces usable.
func enter(covered []string) (Enclave, error) {
	e := Enclave{Base: os.Getenv(insideEnv), Bin: os.Getenv("DOUGONG_BIN")}
	if e.Bin == "" {
		e.Bin = "../../_build/bin"
	}
	var err error
	if e.Bin, err = filepath.Abs(e.Bin); err != nil {
		return e, err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return e, err
	}
	for _, dir := range append([]string{"/run/dougong", "/run/netns"}, covered...) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return e, err
		}
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			return e, fmt.Errorf("cover %s: %w", dir, err)
		}
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return e, fmt.Errorf("%w: %s", err, out)
	}
	return e, nil
}

// Processes lists, after a moment for those that are about to end, processes of
// this enclave with a text in their command line.
func Processes(text string, grace time.Duration) []string {
	for deadline := time.Now().Add(grace); ; time.Sleep(20 * time.Millisecond) {
		var found []string
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range lines {
			line, _ := os.ReadFile(path)
			if !inside(filepath.Dir(path)) {
				continue
			}
			if bytes.Contains(line, []byte(text)) && !strings.HasPrefix(path, fmt.Sprintf("/proc/%d/", os.Getpid())) {
				found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
			}
		}
		if len(found) == 0 || time.Now().After(deadline) {
			return found
		}
	}
}

// inside reports whether a process, by its directory, is in our network
// namespace: other enclaves may have processes of the same programs.
func inside(process string) bool {
	ours, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return false
	}
	theirs, err := os.Stat(filepath.Join(process, "ns/net"))
	return err == nil && os.SameFile(ours, theirs)
}

// RemoveCgroups removes empty cgroups, version 1 and 2, by a pattern of paths.
func RemoveCgroups(patterns ...string) {
	for _, pattern := range patterns {
		dirs, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", pattern))
		for _, dir := range dirs {
			// Somebody else's are not empty.
			_ = os.Remove(dir)
		}
	}
}

// Await waits until something says a text.
func Await(t *testing.T, text string, say func() string) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		said := say()
		if strings.Contains(said, text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q does not come, but %q", text, said)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// RootFS makes a root file system with busybox.
func RootFS(dir string) error {
	for _, name := range []string{"bin", "etc", "tmp", "proc", "sys", "dev", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	script := `cp /bin/busybox "$0/bin/busybox" && for name in $(/bin/busybox --list); do [ "$name" = busybox ] || ln -s busybox "$0/bin/$name"; done`
	if out, err := exec.Command("sh", "-c", script, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("make a root file system: %w: %s; busybox comes with: make setup-test", err, out)
	}
	return nil
}
