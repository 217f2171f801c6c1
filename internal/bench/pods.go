package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Rows of pods, made by the CRI.
const (
	rowPod       = "pod"
	rowPodClone  = "pod clone"
	rowPodAgain  = "pod again"
	rowPodStop   = "pod remove"
	rowPods      = "pods start"
	rowPodsStops = "pods remove"
)

// podsPlan lists the rows of pods.
func podsPlan() []Row {
	return []Row{
		{Name: rowPod, Unit: Seconds, About: "crictl run of a pod with one container, until that runs, without a template", RatioTo: rowCtrRun, Bound: &Bound{Limit: 1.3, Of: rowCtrRun}},
		{Name: rowPodClone, Unit: Seconds, About: "the same, the machine a clone of a saved one", RatioTo: rowCtrClone},
		{Name: rowPodAgain, Unit: Seconds, About: "crictl create and start of a second container in that pod", Bound: atMost(0.6)},
		{Name: rowPodStop, Unit: Seconds, About: "crictl rmp --force of that pod with its two containers", Bound: atMost(2)},
		{Name: rowPods, Unit: Seconds, About: "to start ten such pods at once, until all of them are ready and their containers run"},
		{Name: rowPodsStops, Unit: Seconds, About: "crictl rmp --force of the slowest of them, one after the other", Bound: atMost(2)},
	}
}

// manyPods is how many are started at once.
const manyPods = 10

// cniPlaces are where distributions and others put CNI's plugins.
var cniPlaces = []string{"/usr/lib/cni", "/opt/cni/bin"}

// cri is what it takes to make pods.
type cri struct{ crictl, plugins string }

// findCRI finds crictl beside containerd or in PATH, and CNI's plugins.
func findCRI(dir string) (*cri, error) {
	c := &cri{}
	var err error
	if c.crictl, err = exec.LookPath(filepath.Join(dir, "crictl")); err != nil {
		if c.crictl, err = exec.LookPath("crictl"); err != nil {
			return nil, fmt.Errorf("crictl is %w", errNoTool)
		}
	}
	for _, place := range cniPlaces {
		if _, err := os.Stat(filepath.Join(place, "bridge")); err == nil {
			c.plugins = place
			return c, nil
		}
	}
	return nil, fmt.Errorf("the CNI plugin bridge is %w", errNoTool)
}

// podNetwork is a bridge beside which nothing of the host is.
const podNetwork = `{"cniVersion": "0.4.0", "name": "dougong-bench", "plugins": [
  {"type": "bridge", "bridge": "bench0", "isGateway": true,
   "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.89.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`

// criConfig is the part of containerd's configuration that is about pods: the
// image that stands for them, the plugins, and two handlers.
const criConfig = `
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %[1]q
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = %[2]q
conf_dir = %[3]q
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "dougong"
`

const criHandler = `[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%[1]s]
runtime_type = "` + ctrRuntime + `"
privileged_without_host_devices = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.%[1]s.options]
ConfigPath = %[2]q
`

// config writes what the plugins read, and returns what containerd reads.
func (c *cri) config(dir string, handlers map[string]string) (string, error) {
	plugins := filepath.Join(dir, "cni")
	network := fmt.Sprintf(podNetwork, filepath.Join(dir, "ipam"))
	if err := errors.Join(os.MkdirAll(plugins, 0o700), os.WriteFile(filepath.Join(plugins, "10-bench.conflist"), []byte(network), 0o600)); err != nil {
		return "", fmt.Errorf("write configuration of the pods' network: %w", err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, criConfig, ctrImage, c.plugins, plugins)
	for name, path := range handlers {
		fmt.Fprintf(&text, criHandler, name, path)
	}
	return text.String(), nil
}

// pod names a pod's files.
type pod struct{ name, config, container string }

// newPod describes a pod and a container that stays.
func (d *containerd) newPod() (pod, error) {
	d.runs++
	p := pod{name: "bench-pod-" + strconv.Itoa(d.runs)}
	p.config, p.container = filepath.Join(d.dir, p.name+".json"), filepath.Join(d.dir, p.name+"-container.json")
	type object = map[string]any
	meta := object{"name": p.name, "namespace": "bench", "uid": p.name, "attempt": 1}
	return p, errors.Join(
		writeJSON(p.config, object{"metadata": meta, "log_directory": d.dir, "linux": object{}}),
		p.describe(p.container, "first"), p.describe(p.again(), "second"))
}

// again is the file of a second container.
func (p pod) again() string { return p.container + ".again" }

func (p pod) describe(path, name string) error {
	return writeJSON(path, map[string]any{
		"metadata": map[string]any{"name": name}, "image": map[string]any{"image": ctrImage},
		"command": []string{"sleep", "100000"}, "log_path": p.name + "-" + name + ".log", "linux": map[string]any{},
	})
}

func (d *containerd) crictl(ctx context.Context, args ...string) *exec.Cmd {
	address := "unix://" + d.socket()
	return exec.CommandContext(ctx, d.cri.crictl, append([]string{"--runtime-endpoint", address, "--image-endpoint", address, "--timeout", "120s"}, args...)...)
}

// ask returns what crictl says.
func (d *containerd) ask(ctx context.Context, args ...string) (string, error) {
	cmd := d.crictl(ctx, args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", failure(cmd, err, said.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// startPod starts one by a handler, and returns how long it took.
func (d *containerd) startPod(ctx context.Context, p pod, handler string) (float64, error) {
	return timed(d.crictl(ctx, "run", "--no-pull", "--runtime", handler, p.container, p.config))
}

// removePod removes one and returns how long it took.
func (d *containerd) removePod(ctx context.Context, p pod) (float64, error) {
	id, err := d.ask(ctx, "pods", "--name", p.name, "--quiet")
	if err != nil {
		return 0, err
	}
	return timed(d.crictl(ctx, "rmp", "--force", id))
}

// podLife takes a pod through its life, with a second container.
func (d *containerd) podLife(ctx context.Context, out *series, row, handler string) (err error) {
	p, err := d.newPod()
	if err != nil {
		return err
	}
	took, err := d.startPod(ctx, p, handler)
	if err != nil {
		return err
	}
	out.add(row, took)
	id, err := d.ask(ctx, "pods", "--name", p.name, "--quiet")
	if err != nil {
		return err
	}
	begin := time.Now()
	second, err := d.ask(ctx, "create", id, p.again(), p.config)
	if err == nil {
		err = run(d.crictl(ctx, "start", second))
	}
	if err != nil {
		return err
	}
	out.add(rowPodAgain, time.Since(begin).Seconds())
	if took, err = d.removePod(ctx, p); err == nil {
		out.add(rowPodStop, took)
	}
	return err
}

// manyPods starts pods at once and takes them away one by one.
func (d *containerd) manyPods(ctx context.Context, out *series) error {
	var pods []pod
	for range manyPods {
		p, err := d.newPod()
		if err != nil {
			return err
		}
		pods = append(pods, p)
	}
	begin := time.Now()
	failed := make([]error, manyPods)
	var all sync.WaitGroup
	for i, p := range pods {
		all.Go(func() { _, failed[i] = d.startPod(ctx, p, "dougong") })
	}
	all.Wait()
	took := time.Since(begin).Seconds()
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("start %d pods at once: %w", manyPods, err)
	}
	for _, what := range [][]string{{"pods", "--state", "ready", "--quiet"}, {"ps", "--state", "running", "--quiet"}} {
		ids, err := d.ask(ctx, what...)
		if err != nil {
			return err
		}
		if n := len(strings.Fields(ids)); n != manyPods {
			return fmt.Errorf("crictl %s tells of %d, not %d", strings.Join(what, " "), n, manyPods)
		}
	}
	out.add(rowPods, took)
	slowest := 0.0
	for _, p := range pods {
		took, err := d.removePod(ctx, p)
		if err != nil {
			return err
		}
		slowest = max(slowest, took)
	}
	out.add(rowPodsStops, slowest)
	return nil
}

// removePods takes away what an error has left.
func (d *containerd) removePods() error {
	if d.cri == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*stopTimeout)
	defer cancel()
	ids, err := d.ask(ctx, "pods", "--quiet")
	if err != nil || ids == "" {
		return err
	}
	return run(d.crictl(ctx, append([]string{"rmp", "--force"}, strings.Fields(ids)...)...))
}
