package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/oci/flags"
	"dougong.dev/dougong/internal/record"
)

// resolver is the name server that the VMM's user network offers; it asks
// the host's own.
const resolver = "10.0.2.3"

// plan turns flags and image into what the engine launches.
func (a *app) plan(ctx context.Context, o *runOptions, ref string, args []string) (*engine.Launch, error) {
	run, err := o.runOptions(args)
	if err != nil {
		return nil, err
	}
	machine, err := o.machine(a.cfg)
	if err != nil {
		return nil, err
	}
	img, err := a.pullImage(ctx, ref, pullFlags{policy: o.pull, platform: o.platform, quiet: o.quiet})
	if err != nil {
		return nil, err
	}
	spec, err := oci.Generate(img.Config, run)
	if err != nil {
		return nil, err
	}
	if err := annotate(spec, machine); err != nil {
		return nil, err
	}
	files, err := bundleFiles(run, a.cfg, machine)
	if err != nil {
		return nil, err
	}
	l := &engine.Launch{Spec: spec, Files: files, Rootfs: rootfs(img), Record: o.record(run, spec, ref, img, machine)}
	return l, nil
}

// rootfs is the image as the sandbox process is told of it.
func rootfs(img *image.Image) []*types.Mount {
	if img.Dir != "" {
		return []*types.Mount{{Type: "bind", Source: img.Dir, Options: []string{"rbind", "ro"}}}
	}
	return []*types.Mount{{Type: "erofs", Source: img.RootFS, Options: []string{"ro"}}}
}

func (o *runOptions) record(run oci.RunOptions, spec *specs.Spec, ref string, img *image.Image, m machine) record.Record {
	r := record.Record{
		ID: run.ID, Name: o.name, Image: ref, ImageID: img.ID.String(), Command: spec.Process.Args,
		Created: time.Now(), Labels: oci.Labels(img.Config, run), Terminal: o.tty,
		StopSignal: spec.Annotations[oci.StopSignalAnnotation], AutoRemove: o.remove, Attached: !o.detach,
	}
	if r.Name == "" {
		r.Name = madeUpName()
	}
	for _, f := range m.forwards {
		r.Ports = append(r.Ports, fmt.Sprintf("%s:%d->%d/%s", f.HostIP, f.HostPort, f.GuestPort, f.Protocol))
	}
	return r
}

// runOptions reads the flags that concern the process and its files.
func (o *runOptions) runOptions(args []string) (oci.RunOptions, error) {
	env, err := collectEnv(o.env, o.envFiles)
	if err != nil {
		return oci.RunOptions{}, err
	}
	labels, err := parseLabels(o.labels)
	if err != nil {
		return oci.RunOptions{}, err
	}
	mounts, err := o.allMounts()
	if err != nil {
		return oci.RunOptions{}, err
	}
	run := oci.RunOptions{
		ID: record.NewID(), Args: args, Env: env, Hostname: o.hostname, User: o.user, WorkDir: o.workdir,
		TTY: o.tty, ReadOnly: o.readOnly, CapAdd: o.capAdd, CapDrop: o.capDrop, Privileged: o.privileged,
		Init: o.init, Mounts: mounts, StopSignal: o.stopSignal, DNS: o.dns, Labels: labels,
	}
	if o.entrypointSet() {
		run.Entrypoint = &o.entrypoint
	}
	if _, fraction := math.Modf(o.cpus); fraction != 0 {
		run.CPUs = o.cpus
	}
	for _, s := range o.securityOpts {
		if !slices.Contains([]string{"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}, s) {
			return oci.RunOptions{}, fmt.Errorf("--security-opt %q: only no-new-privileges is known: %w", s, errdefs.ErrInvalidArgument)
		}
		run.NoNewPrivileges = true
	}
	return run, nil
}

// allMounts joins -v, --mount and --tmpfs.
func (o *runOptions) allMounts() ([]oci.Mount, error) {
	var all []oci.Mount
	for _, s := range o.volumes {
		v, err := flags.ParseVolume(s)
		if err != nil {
			return nil, err
		}
		m, err := volumeMount(v)
		if err != nil {
			return nil, fmt.Errorf("-v %s: %w", s, err)
		}
		all = append(all, m)
	}
	for _, s := range o.mounts {
		m, err := flags.ParseMount(s)
		if err != nil {
			return nil, err
		}
		if m.Type == oci.MountBind {
			if m.Source, err = existing(m.Source); err != nil {
				return nil, fmt.Errorf("--mount %s: %w", s, err)
			}
		}
		all = append(all, m)
	}
	for _, s := range o.tmpfs {
		m, err := flags.ParseTmpfs(s)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// volumeMount is the mount of a -v flag. A missing host directory is made, as
// in Docker.
func volumeMount(v flags.Volume) (oci.Mount, error) {
	if v.Named {
		return oci.Mount{}, fmt.Errorf("named volumes are not supported; give a host path (./%s): %w", v.Source, errdefs.ErrInvalidArgument)
	}
	if v.Source == "" {
		return v.Mount(""), nil
	}
	path, err := filepath.Abs(v.Source)
	if err != nil {
		return oci.Mount{}, fmt.Errorf("find host path: %w", err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil && !isFile(path) {
		return oci.Mount{}, fmt.Errorf("make host path: %w", err)
	}
	return v.Mount(path), nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

func existing(path string) (string, error) {
	if path, err := filepath.Abs(path); err == nil {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("bind source path does not exist: %s: %w", path, errdefs.ErrInvalidArgument)
		}
		return path, nil
	}
	return "", fmt.Errorf("bind source %q: %w", path, errdefs.ErrInvalidArgument)
}

func collectEnv(env, files []string) ([]string, error) {
	var all []string
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read --env-file: %w", err)
		}
		more, err := flags.ParseEnvFile(name, content, os.LookupEnv)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	for _, s := range env {
		e, err := flags.ParseEnv(s, os.LookupEnv)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func parseLabels(list []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, s := range list {
		key, value, err := flags.ParseLabel(s)
		if err != nil {
			return nil, err
		}
		labels[key] = value
	}
	return labels, nil
}

// machine is what the flags say about the virtual machine.
type machine struct {
	cpus, memoryMiB int
	network         string
	forwards        []config.Forward
}

func (o *runOptions) machine(cfg config.Config) (machine, error) {
	m := machine{cpus: cfg.VM.CPUs, memoryMiB: cfg.VM.MemoryMiB, network: cfg.Network.Mode}
	if o.cpus < 0 {
		return m, fmt.Errorf("--cpus %v: want more than 0: %w", o.cpus, errdefs.ErrInvalidArgument)
	}
	if o.cpus > 0 {
		m.cpus = int(math.Ceil(o.cpus))
	}
	if o.memory != "" {
		bytes, err := flags.ParseSize(o.memory)
		if err != nil {
			return m, fmt.Errorf("--memory: %w", err)
		}
		m.memoryMiB = int(max(1, bytes>>20))
	}
	if o.network != "" {
		m.network = o.network
	}
	if m.network != "none" && m.network != "user" {
		return m, fmt.Errorf("--network %q: want none or user: %w", m.network, errdefs.ErrInvalidArgument)
	}
	if m.network == "none" && len(o.ports) > 0 {
		return m, fmt.Errorf("-p needs a network, and --network is none: %w", errdefs.ErrInvalidArgument)
	}
	var err error
	m.forwards, err = forwards(o.ports)
	return m, err
}

// annotate writes what the sandbox process must know about the machine.
func annotate(spec *specs.Spec, m machine) error {
	if spec.Annotations == nil {
		spec.Annotations = map[string]string{}
	}
	spec.Annotations[config.AnnotationCPUs] = strconv.Itoa(m.cpus)
	spec.Annotations[config.AnnotationMemory] = strconv.Itoa(m.memoryMiB)
	spec.Annotations[config.AnnotationNetwork] = m.network
	if len(m.forwards) == 0 {
		return nil
	}
	list, err := json.Marshal(m.forwards)
	if err != nil {
		return fmt.Errorf("encode published ports: %w", err)
	}
	spec.Annotations[config.AnnotationForwards] = string(list)
	return nil
}

// bundleFiles renders resolv.conf, hosts and hostname.
func bundleFiles(run oci.RunOptions, cfg config.Config, m machine) (map[string][]byte, error) {
	fallback := cfg.Network.DNS
	if len(fallback) == 0 && m.network == "user" {
		fallback = []string{resolver}
	}
	list, err := oci.Files(run, fallback)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, f := range list {
		files[f.Name] = f.Content
	}
	return files, nil
}

// execProcess is the container's process with the command and the flags of
// an exec.
func execProcess(container *specs.Process, o *execOptions, args, env []string) (*specs.Process, error) {
	p := *container
	p.Args = args
	p.Terminal = o.tty
	var err error
	if p.Env, err = oci.MergeEnv(p.Env, env); err != nil {
		return nil, err
	}
	if o.tty && !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		p.Env = append(p.Env, "TERM=xterm")
	}
	if o.user != "" {
		p.User = specs.User{Username: o.user}
	}
	if o.workdir != "" {
		p.Cwd = o.workdir
	}
	if o.privileged {
		p.Capabilities = oci.AllCapabilities()
	}
	return &p, nil
}
