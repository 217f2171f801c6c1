package podman

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/imagetest"
	"dougong.dev/dougong/test/enclave"
)

// suite is what all tests share.
var suite enclave.Enclave

var podman = enclave.Client{Name: "podman", Command: command, Remove: []string{"rm", "--force", "--time", "0"}}

func TestMain(m *testing.M) {
	enclave.Main(m, "podman", []string{"/run/libpod", "/run/containers"}, prepare, leave)
}

// prepare makes an image.
func prepare(e enclave.Enclave) error {
	suite = e
	image := filepath.Join(suite.Base, "busybox")
	if err := imagetest.BusyboxLayout(image, "/bin/busybox"); err != nil {
		return err
	}
	id, err := podman.Run("pull", "--quiet", "oci:"+image+":latest")
	if err != nil {
		return err
	}
	_, err = podman.Run("tag", id, "localhost/busybox")
	return err
}

// leftovers are directories of containers and processes of ours.
func leftovers() []string {
	left := enclave.Processes(suite.Bin, 5*time.Second)
	dirs, _ := filepath.Glob("/run/dougong/[0-9a-f]*")
	return append(left, dirs...)
}

// leave removes what the tests have made, and tells what is left that should
// not be.
func leave() error {
	_, err := podman.Run("pod", "rm", "--all", "--force", "--time", "0")
	if _, rerr := podman.Run("rm", "--all", "--force", "--time", "0"); err == nil {
		err = rerr
	}
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
