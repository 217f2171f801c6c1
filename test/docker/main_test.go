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
	daemon *exec.Cmd
}

func TestMain(m *testing.M) {
	enclave.Main(m, "docker", []string{"/run/docker"}, prepare, leave)
}

const daemonConfig = `{
	"runtimes": {"dougong": {"path": %q}, "pooled": {"path": %q, "runtimeArgs": ["--config", %q]}}, "default-runtime": "dougong",
	"data-root": %q, "exec-root": %q, "pidfile": %q, "hosts": [%q],
	"storage-driver": "overlay2", "bridge": "none", "iptables": false, "ip6tables": false
}`

// prepare starts a daemon and makes an image.
func prepare(e enclave.Enclave) error {
	suite.Enclave = e
	below := func(name string) string { return filepath.Join(e.Base, name) }
	program := filepath.Join(e.Bin, "dougong")
	config := fmt.Sprintf(daemonConfig, program, program, below("pool.toml"), below("data"), below("exec"), below("pid"), address())
	if err := os.WriteFile(below("daemon.json"), []byte(config), 0o600); err != nil {
		return err
	}
	log, err := os.Create(below("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	suite.daemon = exec.Command("/usr/sbin/dockerd", "--config-file", below("daemon.json"))
	suite.daemon.Stdout, suite.daemon.Stderr = log, log
	if err := suite.daemon.Start(); err != nil {
		return err
	}
	if err := awaitDaemon(); err != nil {
		return err
	}
	if err := enclave.RootFS(below("rootfs")); err != nil {
		return err
	}
	archive := below("rootfs.tar")
	if out, err := exec.Command("tar", "-C", below("rootfs"), "-cf", archive, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	_, err = docker("import", archive, "busybox")
	return err
}

func address() string { return "unix://" + filepath.Join(suite.Base, "docker.sock") }

func awaitDaemon() error {
	deadline := time.Now().Add(60 * time.Second)
	for {
		_, err := docker("version")
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// leave ends the daemon, and tells what is left that should not be.
func leave() error {
	if suite.daemon == nil || suite.daemon.Process == nil {
		return nil
	}
	var err error
	if ids, _ := docker("ps", "--all", "--quiet"); ids != "" {
		_, err = docker(append([]string{"rm", "--force"}, strings.Fields(ids)...)...)
	}
	left := enclave.Processes(filepath.Join(suite.Bin, "containerd-shim"), 5*time.Second)
	_ = suite.daemon.Process.Signal(unix.SIGTERM)
	err = errors.Join(err, suite.daemon.Wait())
	records, _ := filepath.Glob(filepath.Join(suite.Base, "exec", "*", "moby", "*", "record.json"))
	if left = append(left, records...); len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("left behind: %s", strings.Join(left, "\n  ")))
	}
	enclave.RemoveCgroups("docker/*", "docker")
	return err
}

// command is a client of the daemon.
func command(args ...string) *exec.Cmd {
	return exec.Command("/usr/bin/docker", append([]string{"--host", address(), "--config", filepath.Join(suite.Base, "client")}, args...)...)
}

// docker runs a command and returns what it prints, without the line's end.
func docker(args ...string) (string, error) {
	var out, errs strings.Builder
	cmd := command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}
