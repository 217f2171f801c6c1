package sandbox

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/storage"
)

// Containers counts the containers, those that are being made included.
func (s *Sandbox) Containers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.containers)
}

// Spent reports whether the sandbox has ended without a container left in it,
// so that its place may be taken by another one.
func (s *Sandbox) Spent() bool {
	return s.life.get() == Stopped && s.Containers() == 0
}

// Owns reports whether the sandbox is to end with the container.
func (c *Container) Owns() bool { return c.role != oci.PodContainer }

// HostRoot is the container's root directory as this process sees it, empty
// where it is on disks or in memory of the guest.
func (c *Container) HostRoot() string {
	r := c.plan.Rootfs
	if r.GetWritable() != nil || len(r.GetLowers()) != 1 || c.sandbox.tree == nil {
		return ""
	}
	below, ok := strings.CutPrefix(r.GetLowers()[0].GetSource(), storage.GuestShare)
	if !ok {
		return ""
	}
	return filepath.Join(c.sandbox.tree.Dir(), below)
}

// Outline is the part of the host's spec that says what the container's first
// process looks like from outside.
func (c *Container) Outline() *specs.Spec { return &c.outline }

func outline(host *specs.Spec) specs.Spec {
	var o specs.Spec
	if p := host.Process; p != nil {
		o.Process = &specs.Process{Args: p.Args, User: p.User}
	}
	if l := host.Linux; l != nil {
		o.Linux = &specs.Linux{Namespaces: l.Namespaces, UIDMappings: l.UIDMappings, GIDMappings: l.GIDMappings}
	}
	return o
}

// ExecPIDs are the execs that run, by their process ids in the guest.
func (c *Container) ExecPIDs() map[uint32]string {
	execs := make(map[uint32]string)
	for _, p := range c.liveExecs() {
		execs[p.PID()] = p.execID
	}
	return execs
}

// Deletable returns errdefs.ErrFailedPrecondition while the process runs.
func (p *Process) Deletable() error {
	if state := p.State(); state == Running || state == Paused {
		return fmt.Errorf("delete %s: it is %s; stop it first: %w", p.life.what, state, errdefs.ErrFailedPrecondition)
	}
	return nil
}
