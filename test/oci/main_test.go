package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/test/enclave"
)

// suite is what all tests share.
var suite struct {
	// bin holds the binaries, base everything made here.
	bin, base string
	// rootfs is a root file system with busybox.
	rootfs string
	// state is the directory of containers, config a configuration for it.
	state, config string
}

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("skipped: the OCI runtime must run as root")
		return
	}
	code, err := runSuite(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/oci:", err)
		code = 1
	}
	os.Exit(code)
}

func runSuite(m *testing.M) (code int, err error) {
	// As the callers of OCI runtimes do: what loses its parent becomes ours.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 1, err
	}
	if suite.bin = os.Getenv("DOUGONG_BIN"); suite.bin == "" {
		suite.bin = "../../_build/bin"
	}
	if suite.bin, err = filepath.Abs(suite.bin); err != nil {
		return 1, err
	}
	if suite.base, err = os.MkdirTemp("", "dougong-oci-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(suite.base)) }()
	if err := makeParts(); err != nil {
		return 1, err
	}
	code = m.Run()
	for _, dir := range cgroupDirs(cgroup()) {
		err = errors.Join(err, os.Remove(dir))
	}
	return code, err
}

const configuration = `[storage]
root = %q
[runtime]
state = %q
[vm]
kernel = %q
initrd = %q
memory_mib = 256
[cgroup]
parent = %q
`

// cgroup is below which containers have their cgroups on the host.
func cgroup() string { return fmt.Sprintf("/dougong-oci-%d", os.Getpid()) }

// cgroupDirs are the directories of a cgroup, of version 1 and 2.
func cgroupDirs(path string) []string {
	var found []string
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		processes, _ := filepath.Glob(filepath.Join(root, path, "cgroup.procs"))
		for _, file := range processes {
			found = append(found, filepath.Dir(file))
		}
	}
	return found
}

func makeParts() error {
	suite.state, suite.config = filepath.Join(suite.base, "state"), filepath.Join(suite.base, "config.toml")
	guest, err := filepath.EvalSymlinks("/var/lib/dougong/guest/current")
	if err != nil {
		return fmt.Errorf("%w; make it with: make guest", err)
	}
	text := fmt.Sprintf(configuration, filepath.Join(suite.base, "storage"), suite.state, filepath.Join(guest, "vmlinux"), filepath.Join(guest, "initramfs.cpio"), cgroup())
	if err := os.WriteFile(suite.config, []byte(text), 0o600); err != nil {
		return err
	}
	suite.rootfs = filepath.Join(suite.base, "rootfs")
	return enclave.RootFS(suite.rootfs)
}
