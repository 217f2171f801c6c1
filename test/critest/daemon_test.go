package critest

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"dougong.dev/dougong/internal/image/imagetest"
)

// patience bounds whatever is waited for.
const patience = 60 * time.Second

// serveImages serves images until the process ends, and returns the address.
func serveImages(dir string, all map[string]*imagetest.Image) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), ReadHeaderTimeout: patience}
	go func() { _ = server.Serve(listener) }()
	address := listener.Addr().String()
	for ref, image := range all {
		if err := push(filepath.Join(dir, strings.NewReplacer("/", "-", ":", "-").Replace(ref)), address+"/"+ref, image); err != nil {
			return "", fmt.Errorf("image %s: %w", ref, err)
		}
	}
	return address, nil
}

func push(dir, ref string, image *imagetest.Image) error {
	if _, err := image.WriteLayout(dir, "latest"); err != nil {
		return err
	}
	path, err := layout.FromPath(dir)
	if err != nil {
		return err
	}
	index, err := path.ImageIndex()
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	built, err := path.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(tag, built)
}

// daemon is a containerd with CRI.
type daemon struct {
	dir string
	// product is the product's configuration.
	product string
	cmd     *exec.Cmd
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "c.sock") }

// old stands for the distribution's containerd in place of a sandboxer.
const old = "debian"

// network is what CNI makes of a pod: a bridge with the host, and host ports.
const network = `{"cniVersion": "0.4.0", "name": "critest", "plugins": [
  {"type": "bridge", "bridge": "cri0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`

// daemonConfig is containerd's configuration: its directory, the product's
// configuration, the sandboxer, the snapshotter, and the image of pause containers.
// The first runtime has no options, as pods with user namespaces want it: their
// configuration is that of the environment, or of a script that stands for a shim.
const daemonConfig = `version = 3
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
address = "%[1]s/c.sock"
[ttrpc]
address = "%[1]s/c.sock.ttrpc"
[debug]
level = "debug"
[plugins."io.containerd.cri.v1.images"]
snapshotter = %[4]q
use_local_image_pull = true
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "registry.k8s.io/%[5]s"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "%[1]s/certs"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_hugetlb_controller = false
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "%[1]s/cni"
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "dougong"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.dougong]
runtime_type = "io.containerd.dougong.v2"
privileged_without_host_devices = true
container_annotations = ["dougong.dev/*"]
sandboxer = %[3]q
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.options]
runtime_type = "io.containerd.dougong.v2"
sandboxer = %[3]q
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.options.options]
ConfigPath = %[2]q
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.small]
runtime_type = "io.containerd.dougong-small.v2"
sandboxer = %[3]q
`

// smallShim is a shim with another configuration.
const smallShim = `#!/bin/sh
DOUGONG_CONFIG=%s/small.toml exec containerd-shim-dougong-v2 "$@"
`

// oldConfig is the same for the distribution's containerd, which knows no
// sandboxers.
const oldConfig = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
address = "%[1]s/c.sock"
[ttrpc]
address = "%[1]s/c.sock.ttrpc"
[debug]
level = "debug"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "registry.k8s.io/%[5]s"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "%[1]s/certs"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "%[1]s/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = %[4]q
default_runtime_name = "dougong"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.dougong]
runtime_type = "io.containerd.dougong.v2"
privileged_without_host_devices = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.dougong.options]
ConfigPath = %[2]q
`

func (d *daemon) configure(sandboxer, snapshotter, registry string) error {
	config := fmt.Sprintf(daemonConfig, d.dir, d.product, sandboxer, snapshotter, pauseImage)
	if sandboxer == old {
		config = fmt.Sprintf(oldConfig+"%[3]s", d.dir, d.product, "", snapshotter, pauseImage)
	}
	files := map[string]string{
		"config.toml":               config,
		"cni/10-critest.conflist":   fmt.Sprintf(network, filepath.Join(d.dir, "ipam")),
		"certs/_default/hosts.toml": fmt.Sprintf("server = \"http://%[1]s\"\n[host.\"http://%[1]s\"]\n", registry),
	}
	for path, content := range files {
		path = filepath.Join(d.dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(d.dir, "containerd-shim-dougong-small-v2"), fmt.Appendf(nil, smallShim, d.dir), 0o700)
}

// start starts the daemon and waits until it answers.
func (d *daemon) start(clients, bin string) error {
	logFile, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	d.cmd = exec.Command(filepath.Join(clients, "containerd"), "-c", filepath.Join(d.dir, "config.toml"))
	d.cmd.Env = append(os.Environ(), "PATH="+bin+":"+d.dir+":/usr/sbin:/sbin:"+os.Getenv("PATH"), "DOUGONG_CONFIG="+d.product)
	d.cmd.Stdout, d.cmd.Stderr = logFile, logFile
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < patience; <-time.After(50 * time.Millisecond) {
		if exec.Command(filepath.Join(clients, "ctr"), "-a", d.socket(), "version").Run() == nil {
			return nil
		}
	}
	d.stop()
	return fmt.Errorf("%s does not come up; see %s", d.cmd.Path, logFile.Name())
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}
