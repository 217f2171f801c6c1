package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dougong.dev/dougong/internal/network"
)

const (
	// ctrRuntime is the name by which containerd finds the sandbox process.
	ctrRuntime = "io.containerd.dougong.v2"
	// ctrImage is the image's name in containerd.
	ctrImage = "docker.io/library/dougong-bench:latest"
	// daemonStart is how long a daemon may take to come up.
	daemonStart = 30 * time.Second
)

// containerd is a daemon on its own root, state and socket.
type containerd struct {
	lab  *lab
	dir  string
	ctr  string
	cmd  *exec.Cmd
	runs int
	// cri makes pods, nil where the host lacks what it takes; network is where
	// the daemon has their bridge, apart from the host.
	cri     *cri
	network *network.Namespace
	// borrowed gives directories of the host back.
	borrowed []func()
}

// errNoContainerd says that a host has none, which is no failure.
var errNoContainerd = errors.New("containerd and ctr are not installed")

// startContainerd starts the containerd and takes the ctr of a directory, or
// those in PATH where none is named. Its pods, if it is to have any, are made by
// handlers with configurations of ours.
func (l *lab) startContainerd(ctx context.Context, dir string, pods *cri, handlers map[string]string) (*containerd, error) {
	binaries := make(map[string]string)
	for _, name := range []string{"containerd", "ctr"} {
		path, err := exec.LookPath(filepath.Join(dir, name))
		if err != nil {
			return nil, errNoContainerd
		}
		binaries[name] = path
	}
	d := &containerd{lab: l, dir: l.path("containerd"), ctr: binaries["ctr"], cri: pods}
	var err error
	if d.network, err = network.New(); err != nil {
		return nil, err
	}
	if err := d.start(ctx, binaries["containerd"], handlers); err != nil {
		return nil, errors.Join(err, d.giveBack())
	}
	if err := d.importImage(ctx); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

func (d *containerd) socket() string { return filepath.Join(d.dir, "c.sock") }

// apartScript starts the daemon with its mounts apart from the host's, and with
// directories of its own for what is named by fixed paths.
const apartScript = `for dir in ` + netnsDir + ` ` + cniCache + `; do mount -t tmpfs tmpfs "$dir" || exit; done
exec "$@"`

const (
	netnsDir = "/run/netns"
	cniCache = "/var/lib/cni"
)

func (d *containerd) start(ctx context.Context, binary string, handlers map[string]string) error {
	path, err := d.configure(handlers)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		return fmt.Errorf("make log of containerd: %w", err)
	}
	defer log.Close()
	for _, dir := range []string{netnsDir, cniCache} {
		giveBack, err := borrow(dir)
		if err != nil {
			return err
		}
		d.borrowed = append(d.borrowed, giveBack)
	}
	d.cmd = exec.Command("sh", "-c", apartScript, "sh", binary, "-c", path)
	d.cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(d.lab.command)+":"+os.Getenv("PATH"))
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Unshareflags: syscall.CLONE_NEWNS}
	err = d.network.Do(func() error { return errors.Join(configure("lo", ""), d.cmd.Start()) })
	if err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	for begin := time.Now(); ; {
		if err := run(d.client(ctx, "version")); err == nil {
			return nil
		} else if time.Since(begin) > daemonStart || ctx.Err() != nil {
			return errors.Join(fmt.Errorf("containerd does not come up: %w", err), d.stop())
		}
		<-time.After(50 * time.Millisecond)
	}
}

// borrow makes a directory if it is not there, and returns what removes what was
// made.
func borrow(dir string) (giveBack func(), err error) {
	var made []string
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil {
			break
		}
		made = append(made, at)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	return func() {
		for _, m := range made {
			// Somebody else's are not empty.
			_ = os.Remove(m)
		}
	}, nil
}

// configure writes the configuration and returns its path.
func (d *containerd) configure(handlers map[string]string) (string, error) {
	if err := os.MkdirAll(d.dir, 0o711); err != nil {
		return "", fmt.Errorf("make directory of containerd: %w", err)
	}
	disabled := `"io.containerd.nri.v1.nri"`
	pods := ""
	if d.cri == nil {
		disabled += `, "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"`
	} else {
		var err error
		if pods, err = d.cri.config(d.dir, handlers); err != nil {
			return "", err
		}
	}
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [%s]\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n",
		filepath.Join(d.dir, "root"), filepath.Join(d.dir, "state"), disabled, d.socket(), d.socket()+".ttrpc") + pods
	path := filepath.Join(d.dir, "config.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return "", fmt.Errorf("write configuration of containerd: %w", err)
	}
	return path, nil
}

// stop ends the daemon. Sandboxes that it leaves are ended before.
func (d *containerd) stop() error {
	err := d.removePods()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
	return errors.Join(err, d.giveBack())
}

func (d *containerd) giveBack() error {
	for _, giveBack := range d.borrowed {
		giveBack()
	}
	d.borrowed = nil
	return d.network.Close()
}

func (d *containerd) client(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.ctr, append([]string{"-a", d.socket()}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	return cmd
}

// importImage gives containerd the image that everything is measured with.
func (d *containerd) importImage(ctx context.Context) error {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	info, err := os.Stat(d.lab.blob(ocispec.Descriptor{Digest: d.lab.image.Digest}))
	if err != nil {
		return fmt.Errorf("find the image: %w", err)
	}
	index.Manifests = []ocispec.Descriptor{{
		MediaType: ocispec.MediaTypeImageManifest, Digest: d.lab.image.Digest, Size: info.Size(),
		Annotations: map[string]string{ocispec.AnnotationRefName: "latest"},
	}}
	text, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("describe the image: %w", err)
	}
	layout, archive := filepath.Join(d.dir, "image"), filepath.Join(d.dir, "image.tar")
	err = errors.Join(os.Mkdir(layout, 0o700), os.WriteFile(filepath.Join(layout, "index.json"), text, 0o600),
		os.WriteFile(filepath.Join(layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600),
		os.Symlink(d.lab.path("storage", "oci", "blobs"), filepath.Join(layout, "blobs")))
	if err != nil {
		return fmt.Errorf("lay the image out: %w", err)
	}
	if err := run(exec.CommandContext(ctx, "tar", "-c", "-h", "-C", layout, "-f", archive, ".")); err != nil {
		return fmt.Errorf("pack the image: %w", err)
	}
	names := []string{"default"}
	if d.cri != nil {
		names = append(names, "k8s.io")
	}
	for _, name := range names {
		if err := run(d.client(ctx, "--namespace", name, "image", "import", "--base-name", strings.TrimSuffix(ctrImage, ":latest"), archive)); err != nil {
			return err
		}
	}
	return nil
}

// args are those of a run with a configuration of ours.
func (d *containerd) args(config string, flags []string, command ...string) []string {
	d.runs++
	id := "bench-" + strconv.Itoa(d.runs)
	args := append([]string{"run", "--runtime", ctrRuntime, "--runtime-config-path", config}, flags...)
	return append(append(args, ctrImage, id), command...)
}
