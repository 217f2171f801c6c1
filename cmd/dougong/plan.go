package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/record"
)

// resolver is the name server that the VMM's user network offers; it asks
// the host's own.
const resolver = "10.0.2.3"

// plan turns flags and image into what the engine launches.
func (a *app) plan(ctx context.Context, o *runOptions, ref string, args []string) (*engine.Launch, error) {
	machine, err := o.machine(a.cfg)
	if err != nil {
		return nil, err
	}
	run, err := o.runOptions(args)
	if err != nil {
		return nil, err
	}
	run.CPUs = machine.cpuLimit
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
	if o.tty && o.interactive {
		run.ConsoleSize = engine.TerminalSize(os.Stdin)
	}
	if o.entrypointSet() {
		run.Entrypoint = &o.entrypoint
	}
	for _, s := range o.securityOpts {
		if !slices.Contains([]string{"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}, s) {
			return oci.RunOptions{}, fmt.Errorf("--security-opt %q: only no-new-privileges is known: %w", s, errdefs.ErrInvalidArgument)
		}
		run.NoNewPrivileges = true
	}
	return run, nil
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
