package podman

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/imagetest"
	"dougong.dev/dougong/test/enclave"
)

// suite is what all tests share.
var suite enclave.Enclave

func TestMain(m *testing.M) {
	enclave.Main(m, "podman", []string{"/run/libpod"}, prepare, leave)
}

// prepare makes an image.
func prepare(e enclave.Enclave) error {
	suite = e
	image := filepath.Join(suite.Base, "busybox")
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
	_ = unix.Unmount(filepath.Join(suite.Base, "root", "overlay"), unix.MNT_DETACH)
	enclave.RemoveCgroups("libpod_parent/*", "libpod_parent")
	return err
}

// command is Podman's, with a store of its own.
func command(args ...string) *exec.Cmd {
	return exec.Command("podman", append([]string{
		"--root", filepath.Join(suite.Base, "root"), "--runroot", filepath.Join(suite.Base, "run"), "--tmpdir", filepath.Join(suite.Base, "tmp"),
		"--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", filepath.Join(suite.Bin, "dougong"),
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
