package docker

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/test/enclave"
)

// suite is what all tests share.
var suite struct {
	enclave.Enclave
	// daemons are containerd, where it is not Docker that starts it, and Docker.
	daemons []*exec.Cmd
}

// docker is the client, which knows older and newer daemons.
var docker = enclave.Client{Name: "docker", Command: command, Remove: []string{"rm", "--force"}}

// newDaemon says that it is the newest Docker that is tested, which takes
// Dougong as a runtime of containerd's.
func newDaemon() bool { return os.Getenv("DOUGONG_DOCKERD") != "" }

func TestMain(m *testing.M) {
	enclave.Main(m, "docker", []string{"/run/docker", "/run/containerd"}, prepare, leave)
}

const daemonConfig = `{
	%s, "data-root": %q, "exec-root": %q, "pidfile": %q, "hosts": [%q],
	"storage-driver": %q, "bip": "10.92.0.1/24", "userland-proxy": false, "ip6tables": false
}`

func below(name string) string { return filepath.Join(suite.Base, name) }

// prepare starts a daemon and makes an image.
func prepare(e enclave.Enclave) error {
	suite.Enclave = e
	program, driver := "/usr/sbin/dockerd", "overlay2"
	command := filepath.Join(e.Bin, "dougong")
	runtimes := fmt.Sprintf(`"runtimes": {"dougong": {"path": %q}, "pooled": {"path": %q, "runtimeArgs": ["--config", %q]}}, "default-runtime": "dougong"`, command, command, below("pool.toml"))
	if newDaemon() {
		program, driver = os.Getenv("DOUGONG_DOCKERD"), "overlayfs"
		runtimes = fmt.Sprintf(`"default-runtime": "io.containerd.dougong.v2", "containerd": %q`, below("containerd.sock"))
		if err := startContainerd(); err != nil {
			return err
		}
	}
	config := fmt.Sprintf(daemonConfig, runtimes, below("data"), below("exec"), below("pid"), address(), driver)
	if err := os.WriteFile(below("daemon.json"), []byte(config), 0o600); err != nil {
		return err
	}
	if err := launch("docker", program, "--config-file", below("daemon.json")); err != nil {
		return err
	}
	if err := await("Docker", func() error { _, err := docker.Run("version"); return err }); err != nil {
		return err
	}
	if err := enclave.RootFS(below("rootfs")); err != nil {
		return err
	}
	archive := below("rootfs.tar")
	if out, err := exec.Command("tar", "-C", below("rootfs"), "-cf", archive, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	_, err := docker.Run("import", archive, image)
	return err
}

const containerdConfig = `version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]
[grpc]
address = %q
[ttrpc]
address = %q
`

// startContainerd starts the containerd that finds the shim on its path.
func startContainerd() error {
	socket := below("containerd.sock")
	config := fmt.Sprintf(containerdConfig, below("containerd-root"), below("containerd-state"), socket, socket+".ttrpc")
	if err := os.WriteFile(below("containerd.toml"), []byte(config), 0o600); err != nil {
		return err
	}
	if err := launch("containerd", filepath.Join(os.Getenv("DOUGONG_CONTAINERD"), "containerd"), "--config", below("containerd.toml")); err != nil {
		return err
	}
	return await("containerd", func() error { _, err := os.Stat(socket); return err })
}

// launch starts a daemon.
func launch(name, program string, args ...string) error {
	log, err := os.Create(below(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	// The client of the distribution is older than what the newest takes unasked.
	cmd.Env = append(os.Environ(), "PATH="+suite.Bin+":"+os.Getenv("PATH"), "DOCKER_MIN_API_VERSION=1.24")
	if err := cmd.Start(); err != nil {
		return err
	}
	suite.daemons = append(suite.daemons, cmd)
	return nil
}

func address() string { return "unix://" + below("docker.sock") }

func await(what string, is func() error) error {
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := is()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			logs, _ := exec.Command("sh", "-c", "tail -n 20 \"$0\"/*.log", suite.Base).CombinedOutput()
			return fmt.Errorf("%s does not come up: %w\n%s", what, err, logs)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// leave ends the daemons, and tells what is left that should not be.
func leave() error {
	var err error
	if len(suite.daemons) > 0 {
		if ids, _ := docker.Run("ps", "--all", "--quiet"); ids != "" {
			_, err = docker.Run(append([]string{"rm", "--force"}, strings.Fields(ids)...)...)
		}
	}
	left := enclave.Processes(filepath.Join(suite.Bin, "containerd-shim"), 5*time.Second)
	for i := range suite.daemons {
		daemon := suite.daemons[len(suite.daemons)-1-i]
		_ = daemon.Process.Signal(unix.SIGTERM)
		err = errors.Join(err, daemon.Wait())
	}
	for _, pattern := range []string{"exec/*/moby/*/record.json", "containerd-state/io.containerd.runtime.v2.task/moby/*"} {
		found, _ := filepath.Glob(below(pattern))
		left = append(left, found...)
	}
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("left behind: %s", strings.Join(left, "\n  ")))
	}
	enclave.RemoveCgroups("docker/*", "docker")
	return err
}

// command is a client of the daemon.
func command(args ...string) *exec.Cmd {
	return exec.Command("/usr/bin/docker", append([]string{"--host", address(), "--config", below("client")}, args...)...)
}
