package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Rows of the OCI runtime's commands. Those of Podman need one, and runc.
const (
	rowState      = "state"
	rowList       = "list"
	rowPodman     = "podman run"
	rowPodmanRunc = "podman run runc"
)

// ociPlan lists them.
func ociPlan() []Row {
	return []Row{
		{Name: rowState, Unit: Seconds, About: "dougong state of a running container, the whole command", Bound: atMost(0.03)},
		{Name: rowList, Unit: Seconds, About: "dougong list with a running container, the whole command", Bound: atMost(0.03)},
		{Name: rowPodmanRunc, Unit: Seconds, About: "podman --runtime runc run --rm --network none IMAGE true"},
		{Name: rowPodman, Unit: Seconds, About: "the same with dougong, the machine a clone of a saved one", RatioTo: rowPodmanRunc, Bound: &Bound{Limit: 1.0, Plus: rowPodmanRunc}},
	}
}

// podman is one with a store of its own.
type podman struct {
	dir, binary, wrapper string
	env                  []string
}

// podmanImage is the image's name there.
const podmanImage = "localhost/dougong-bench"

// podmanSettings are for machines on which root may not raise limits, too.
const podmanSettings = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
lock_type = "file"
`

// startPodman gives the Podman that is installed a store with the image.
func (l *lab) startPodman(ctx context.Context) (*podman, error) {
	binary, err := exec.LookPath("podman")
	if err != nil {
		return nil, errors.New("podman is not installed")
	}
	p := &podman{dir: l.path("podman"), binary: binary}
	p.wrapper = filepath.Join(p.dir, "dougong")
	settings, archive := filepath.Join(p.dir, "containers.conf"), filepath.Join(p.dir, "image.tar")
	p.env = append(os.Environ(), "CONTAINERS_CONF="+settings)
	// Podman hands no variables on to a runtime, and its flags not always.
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' --config '%s' \"$@\"\n", l.command, l.configPath)
	err = os.Mkdir(p.dir, 0o711)
	if err == nil {
		err = errors.Join(os.WriteFile(p.wrapper, []byte(script), 0o755), os.WriteFile(settings, []byte(podmanSettings), 0o600))
	}
	if err != nil {
		return nil, fmt.Errorf("make a place for podman: %w", err)
	}
	if err := run(exec.CommandContext(ctx, "tar", "-c", "-C", l.path("rootfs"), "-f", archive, ".")); err != nil {
		return nil, fmt.Errorf("pack the image: %w", err)
	}
	err = run(p.client(ctx, "runc", "import", "--quiet", archive, podmanImage))
	for _, runtime := range []string{"runc", p.wrapper} {
		if err == nil {
			_, err = p.run(ctx, runtime)
		}
	}
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *podman) client(ctx context.Context, runtime string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.binary, append([]string{
		"--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"), "--tmpdir", filepath.Join(p.dir, "tmp"),
		"--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", runtime,
	}, args...)...)
	cmd.Env = p.env
	return cmd
}

// run times a container from nothing to nothing.
func (p *podman) run(ctx context.Context, runtime string) (float64, error) {
	return timed(p.client(ctx, runtime, "run", "--rm", "--network", "none", podmanImage, "true"))
}

// stop removes what Podman has made, and lets go of the mount that it leaves.
func (p *podman) stop() error {
	err := run(p.client(context.Background(), p.wrapper, "rm", "--all", "--force", "--time", "0"))
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if words := strings.Fields(line); len(words) > 4 && strings.HasPrefix(words[4], p.dir+"/") {
			err = errors.Join(err, unix.Unmount(words[4], unix.MNT_DETACH))
		}
	}
	return err
}

// oci measures the commands of the OCI runtime, and Podman where there is one.
func (b *bench) oci(ctx context.Context) (err error) {
	const name = "bench-oci"
	c, err := b.lab.start(ctx, name, b.Image)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, c.stop()) }()
	dir, err := b.lab.root.Find(name)
	if err != nil {
		return err
	}
	p, err := b.lab.startPodman(ctx)
	if err != nil {
		for _, row := range []string{rowPodman, rowPodmanRunc} {
			b.out.missing[row] = err.Error()
		}
		p = nil
	}
	defer func() {
		if p != nil {
			err = firstError(err, p.stop())
		}
	}()
	for i := range b.Runs {
		b.say("OCI commands, round %d of %d", i+1, b.Runs)
		if err := b.ociRound(ctx, dir.ID, p); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) ociRound(ctx context.Context, id string, p *podman) error {
	if err := b.command(ctx, rowState, "state", id); err != nil {
		return err
	}
	if err := b.command(ctx, rowList, "list"); err != nil {
		return err
	}
	if p == nil {
		return nil
	}
	for row, runtime := range map[string]string{rowPodmanRunc: "runc", rowPodman: p.wrapper} {
		took, err := p.run(ctx, runtime)
		if err != nil {
			return err
		}
		b.out.add(row, took)
	}
	return nil
}
