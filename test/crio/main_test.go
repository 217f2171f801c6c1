package crio

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

	"dougong.dev/dougong/internal/image/imagetest"
	"dougong.dev/dougong/test/enclave"
)

// suite is what all tests share.
var suite struct {
	enclave.Enclave
	// clients has CRI-O and what comes with it.
	clients string
	daemon  *exec.Cmd
}

var crictl = enclave.Client{Name: "crictl", Command: command, Remove: []string{"rmp", "--force"}}

func TestMain(m *testing.M) {
	enclave.Main(m, "crio", nil, prepare, leave)
}

// kinds are the ways in which CRI-O takes a runtime.
var kinds = []string{"oci", "vm"}

// settings is CRI-O's configuration, for a directory and the one of the binaries
// and of CRI-O's own.
const settings = `[crio]
root = "%[1]s/root"
runroot = "%[1]s/run"
storage_driver = "overlay"
log_dir = "%[1]s/logs"
version_file = "%[1]s/version"
version_file_persist = "%[1]s/version-persist"
clean_shutdown_file = "%[1]s/clean"
[crio.api]
listen = "%[1]s/crio.sock"
[crio.runtime]
default_runtime = "oci"
cgroup_manager = "cgroupfs"
drop_infra_ctr = false
pinns_path = "%[3]s/pinns"
namespaces_dir = "%[1]s/namespaces"
container_exits_dir = "%[1]s/exits"
container_attach_socket_dir = "%[1]s/attach"
decryption_keys_path = "%[1]s/keys"
hooks_dir = []
[crio.runtime.runtimes.oci]
runtime_path = "%[2]s/dougong"
runtime_root = "/run/dougong"
monitor_path = "/usr/bin/conmon"
monitor_cgroup = "pod"
privileged_without_host_devices = true
[crio.runtime.runtimes.vm]
runtime_path = "%[2]s/containerd-shim-dougong-v2"
runtime_type = "vm"
runtime_root = "%[1]s/vm"
privileged_without_host_devices = true
[crio.runtime.runtimes.oci-pooled]
runtime_path = "%[1]s/pooled/dougong"
runtime_root = "/run/dougong"
monitor_path = "/usr/bin/conmon"
monitor_cgroup = "pod"
privileged_without_host_devices = true
[crio.runtime.runtimes.vm-pooled]
runtime_path = "%[1]s/pooled/containerd-shim-dougong-v2"
runtime_type = "vm"
runtime_root = "%[1]s/vm"
privileged_without_host_devices = true
[crio.image]
pause_image = "localhost/busybox:latest"
pause_command = "/bin/sleep"
signature_policy = "%[1]s/policy.json"
[crio.network]
network_dir = "%[1]s/cni"
plugin_dirs = ["/usr/lib/cni"]
[crio.metrics]
enable_metrics = false
[crio.nri]
enable_nri = false
`

const network = `{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "crio0", "isGateway": true, "ipMasq": true,
   "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.97.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`

func below(name string) string { return filepath.Join(suite.Base, name) }

// prepare starts the daemon, which finds an image in its store.
func prepare(e enclave.Enclave) error {
	suite.Enclave = e
	if suite.clients = os.Getenv("DOUGONG_CRIO"); suite.clients == "" {
		return errors.New("DOUGONG_CRIO names no directory with CRI-O; make test-crio does")
	}
	for name, content := range map[string]string{
		"crio.conf":         fmt.Sprintf(settings, e.Base, e.Bin, suite.clients),
		"cni/10-p.conflist": fmt.Sprintf(network, below("ipam")),
		"policy.json":       `{"default": [{"type": "insecureAcceptAnything"}]}`,
		"registries.conf":   "",
		"crictl.yaml":       "",
	} {
		if err := os.MkdirAll(filepath.Dir(below(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(below(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	if err := errors.Join(wrappers(), addImage()); err != nil {
		return err
	}
	log, err := os.Create(below("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	suite.daemon = exec.Command(filepath.Join(suite.clients, "crio"), "--config", below("crio.conf"), "--config-dir", "", "--log-level", "debug")
	suite.daemon.Stdout, suite.daemon.Stderr = log, log
	suite.daemon.Env = append(os.Environ(), "CONTAINERS_REGISTRIES_CONF="+below("registries.conf"))
	if err := suite.daemon.Start(); err != nil {
		return err
	}
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		_, err := crictl.Run("version")
		if err == nil {
			return nil
		}
		if time.Since(begin) > enclave.Patience {
			return fmt.Errorf("CRI-O does not come up: %w\n%s", err, lastWords())
		}
	}
}

// lastWords are the end of the daemon's log.
func lastWords() []byte {
	tail, _ := exec.Command("tail", "-n", "40", below("log")).CombinedOutput()
	return tail
}

// addImage puts an image into the store of the daemon.
func addImage() error {
	layout := below("busybox")
	if err := imagetest.BusyboxLayout(layout, "/bin/busybox"); err != nil {
		return err
	}
	store := fmt.Sprintf("containers-storage:[overlay@%s+%s]localhost/busybox:latest", below("root"), below("run"))
	if out, err := exec.Command("skopeo", "--policy", below("policy.json"), "copy", "oci:"+layout+":latest", store).CombinedOutput(); err != nil {
		return fmt.Errorf("copy an image into the store: %w: %s", err, out)
	}
	return nil
}

// leave ends the daemon, and tells what is left that should not be.
func leave() error {
	if suite.daemon == nil || suite.daemon.Process == nil {
		return nil
	}
	_, err := crictl.Run("rmp", "--all", "--force")
	left := enclave.Processes(filepath.Join(suite.Bin, "containerd-shim"), 5*time.Second)
	_ = suite.daemon.Process.Signal(unix.SIGTERM)
	if werr := suite.daemon.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("CRI-O: %w\n%s", werr, lastWords()))
	}
	dirs, _ := filepath.Glob("/run/dougong/[0-9a-f]*")
	if left = append(left, dirs...); len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("left behind: %s", strings.Join(left, "\n  ")))
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if words := strings.Fields(line); len(words) > 4 && strings.HasPrefix(words[4], suite.Base) {
			_ = unix.Unmount(words[4], unix.MNT_DETACH)
		}
	}
	enclave.RemoveCgroups("pods/*", "pods")
	return err
}

// command is a client of the daemon.
func command(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(suite.clients, "crictl"), append([]string{
		"--config", below("crictl.yaml"), "--runtime-endpoint", "unix://" + below("crio.sock"), "--image-endpoint", "unix://" + below("crio.sock"), "--timeout", "120s",
	}, args...)...)
}
