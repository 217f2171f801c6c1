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
	"time"

	"github.com/pelletier/go-toml/v2"
)

// Rows that need a containerd.
const (
	rowCtrRun    = "ctr run"
	rowCtrClone  = "ctr run clone"
	rowCtrPool   = "ctr run pool"
	rowCtrErofs  = "ctr run clone erofs"
	rowCtrExec   = "ctr exec"
	rowCtrStdout = "ctr stdout"
	rowCtrShim   = "ctr shim PSS"
)

// ctrExec is the container in which commands are run.
const ctrExec = "bench-ctr-exec"

// containerdPlan lists the rows that need a containerd.
func containerdPlan() []Row {
	return []Row{
		{Name: rowCtrRun, Unit: Seconds, About: "ctr run --rm IMAGE true without a template, overlayfs snapshotter", RatioTo: rowRun, Bound: &Bound{Limit: 1.25, Of: rowRun}},
		{Name: rowCtrClone, Unit: Seconds, About: "the same, the machine a clone of a saved one", RatioTo: rowClone, Bound: atMost(0.65)},
		{Name: rowCtrPool, Unit: Seconds, About: "the same, the machine one that has waited in the pool", RatioTo: rowPool},
		{Name: rowCtrErofs, Unit: Seconds, About: "as ctr run clone, with the erofs snapshotter", RatioTo: rowClone, Bound: atMost(0.55)},
		{Name: rowCtrExec, Unit: Seconds, About: "ctr task exec TASK true, the whole command", Bound: atMost(0.35)},
		{Name: rowCtrStdout, Unit: Rate, About: "ctr run … dd if=/dev/zero to a pipe, 256 MiB", Bound: atLeast(100)},
		{Name: rowCtrShim, Unit: Megabytes, About: "sandbox process of an idle container under containerd", Bound: atMost(20)},
	}
}

// ctrStreamSize is how much goes through the output of a container.
const ctrStreamSize = 256 << 20

// containerd measures under a containerd, where there is one.
func (b *bench) containerd(ctx context.Context) (err error) {
	booted, err := b.lab.withoutTemplate()
	if err != nil {
		return err
	}
	pods, err := findCRI(b.Containerd)
	if err != nil {
		b.out.lack(podsPlan(), err)
	}
	d, err := b.lab.startContainerd(ctx, b.Containerd, pods, map[string]string{"dougong": b.lab.configPath, "boot": booted})
	if errors.Is(err, errNoContainerd) {
		b.out.lack(append(containerdPlan(), podsPlan()...), err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, d.stop()) }()
	stop, err := d.detach(ctx, ctrExec)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, stop()) }()
	steps := []func() error{
		// A cold start beside one of the command, at the same load.
		func() error { return b.command(ctx, rowRun, "run", "--rm", "--no-template", b.Image, "true") },
		func() error { return d.runTrue(ctx, b.out, rowCtrRun, booted) },
		func() error { return d.runTrue(ctx, b.out, rowCtrClone, b.lab.configPath) },
		func() error { return d.runFromPool(ctx, b.out) },
		func() error { return d.runErofs(ctx, b.out) },
		func() error { return d.exec(ctx, b.out) },
		func() error { return d.stream(ctx, b.out) },
		func() error { return d.shimMemory(b.out) },
	}
	if d.cri != nil {
		steps = append(steps,
			func() error { return d.podLife(ctx, b.out, rowPod, "boot") },
			func() error { return d.podLife(ctx, b.out, rowPodClone, "dougong") })
	}
	for i := range b.Runs + 1 {
		b.say("containerd, round %d of %d", i, b.Runs)
		if i == 1 {
			// The first round was to warm up.
			b.out.forget(append(containerdPlan(), podsPlan()...))
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
	}
	if d.cri == nil {
		return nil
	}
	b.say("%d pods at once", manyPods)
	return d.manyPods(ctx, b.out)
}

// forget drops the readings of rows.
func (s *series) forget(rows []Row) {
	for _, r := range rows {
		delete(s.readings, r.Name)
	}
}

// withoutTemplate writes a configuration by which machines boot.
func (l *lab) withoutTemplate() (string, error) {
	cfg := l.cfg
	cfg.Template.Enabled = false
	text, err := toml.Marshal(cfg)
	path := l.path("boot.toml")
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("write configuration to measure with: %w", err)
	}
	return path, nil
}

// runTrue times a container from nothing to nothing.
func (d *containerd) runTrue(ctx context.Context, out *series, row, config string, flags ...string) error {
	took, err := timed(d.client(ctx, d.args(config, append(flags, "--rm"), "true")...))
	if err == nil {
		out.add(row, took)
	}
	return err
}

// runErofs does so where containerd can make such disks: it has the snapshotter
// since 2.1, and calls a program for them.
func (d *containerd) runErofs(ctx context.Context, out *series) error {
	if out.missing[rowCtrErofs] != "" {
		return nil
	}
	if err := d.hasErofs(ctx); err != nil {
		out.missing[rowCtrErofs] = err.Error()
		return nil
	}
	return d.runTrue(ctx, out, rowCtrErofs, d.lab.configPath, "--snapshotter", "erofs")
}

func (d *containerd) hasErofs(ctx context.Context) error {
	if _, err := exec.LookPath("mkfs.erofs"); err != nil {
		return fmt.Errorf("erofs-utils are not installed: %w", err)
	}
	list, err := d.client(ctx, "plugins", "ls").Output()
	if err != nil {
		return fmt.Errorf("list plugins of containerd: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		if f := strings.Fields(line); len(f) > 2 && strings.HasSuffix(f[0], "snapshotter.v1") && f[1] == "erofs" && f[len(f)-1] == "ok" {
			return nil
		}
	}
	return errors.New("this containerd has no erofs snapshotter")
}

// detach starts a container that stays until stop is called.
func (d *containerd) detach(ctx context.Context, id string) (stop func() error, err error) {
	args := d.args(d.lab.configPath, []string{"-d"}, "sleep", "100000")
	for i, a := range args {
		if a == ctrImage {
			args[i+1] = id
		}
	}
	remove := func() error {
		ctx := context.WithoutCancel(ctx)
		_ = run(d.client(ctx, "task", "rm", "-f", id))
		return run(d.client(ctx, "container", "rm", id))
	}
	if err := run(d.client(ctx, args...)); err != nil {
		_ = remove()
		return nil, err
	}
	return remove, nil
}

func (d *containerd) exec(ctx context.Context, out *series) error {
	d.runs++
	took, err := timed(d.client(ctx, "task", "exec", "--exec-id", "e"+strconv.Itoa(d.runs), ctrExec, "true"))
	if err == nil {
		out.add(rowCtrExec, took)
	}
	return err
}

// stream takes bytes out of a container, timed from the first to the last.
func (d *containerd) stream(ctx context.Context, out *series) error {
	script := "echo up; exec dd if=/dev/zero bs=1M count=" + strconv.Itoa(ctrStreamSize>>20) + " 2>/dev/null"
	rate, err := stream(d.client(ctx, d.args(d.lab.configPath, []string{"--rm"}, "sh", "-c", script)...), "up\n", 0, ctrStreamSize)
	if err == nil {
		out.add(rowCtrStdout, rate)
	}
	return err
}

// shimMemory reads the memory of the sandbox process of the idle container,
// once it has settled.
func (d *containerd) shimMemory(out *series) error {
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, path := range entries {
		line, err := os.ReadFile(path)
		args := strings.Split(string(line), "\x00")
		if err != nil || !strings.HasSuffix(args[0], "containerd-shim-dougong-v2") ||
			!strings.Contains(string(line), "\x00"+ctrExec+"\x00") || !strings.Contains(string(line), d.socket()) {
			continue
		}
		dir := filepath.Dir(path)
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("sandbox process: %w", err)
		}
		if wait := settleTime - time.Since(info.ModTime()); wait > 0 {
			<-time.After(wait)
		}
		pss, err := proportionalSet(filepath.Join(dir, "smaps_rollup"))
		if err != nil {
			return fmt.Errorf("memory of the sandbox process: %w", err)
		}
		out.add(rowCtrShim, pss)
		return nil
	}
	return fmt.Errorf("container %s has no sandbox process", ctrExec)
}
