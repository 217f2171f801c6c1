package sandbox

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/agent"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/virtiofsd"
	"dougong.dev/dougong/internal/vmm"
)

// What follows plugs a device in for the rehearsal and takes it away again: the
// one that is plugged in later is another, behind the same port.

// playShare has a root file system in a shared directory.
func (p player) playShare(ctx context.Context, c *agent.Client) (err error) {
	dir, err := os.MkdirTemp(p.opts.Dir, "rehearsal-")
	if err != nil {
		return fmt.Errorf("make a directory for a rehearsal: %w", err)
	}
	defer os.RemoveAll(dir)
	config := p.opts.Share
	config.Dir, config.RunDir = filepath.Join(dir, "shared"), dir
	if err := rehearsalRoot(filepath.Join(config.Dir, playedID)); err != nil {
		return err
	}
	daemon, err := virtiofsd.Start(ctx, config)
	if err != nil {
		return err
	}
	defer daemon.Stop()
	if err := p.machine.AttachShare(ctx, share(daemon)); err != nil {
		return err
	}
	if _, err := c.VM.Mount(ctx, shareMount()); err != nil {
		return err
	}
	root := &agentapi.Rootfs{Lowers: []*agentapi.Mount{{Type: "bind", Source: filepath.Join(storage.GuestShare, playedID)}}}
	if err := p.perform(ctx, c, root, "/bin/true"); err != nil {
		return err
	}
	if _, err := c.VM.Unmount(ctx, &agentapi.UnmountRequest{Targets: []string{storage.GuestShare}}); err != nil {
		return err
	}
	return p.machine.DetachShare(ctx, storage.Tag)
}

// playDisk has the image on a disk.
func (p player) playDisk(ctx context.Context, c *agent.Client) error {
	plan, err := p.imagePlan()
	if err != nil {
		return err
	}
	f, err := rehearsalDisk(0, true)
	if err != nil {
		return err
	}
	defer f.Close()
	set, err := p.machine.AttachDisks(ctx, []vmm.Disk{{Serial: plan.Disks[0].Serial, File: f, ReadOnly: true}})
	if err != nil {
		return err
	}
	if err := p.perform(ctx, c, plan.Rootfs, "/bin/true"); err != nil {
		return err
	}
	return p.machine.DetachDisks(ctx, set)
}

// rehearsalProgram is the only one of the rehearsal's image.
//
//go:embed rehearsal.bin
var rehearsalProgram []byte

// rehearsalRoot makes what is in the image in a directory.
func rehearsalRoot(dir string) error {
	for _, name := range []string{"bin", "etc", "dev", "proc", "sys", "run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return fmt.Errorf("make a root file system for a rehearsal: %w", err)
		}
	}
	for name, content := range map[string]string{"bin/true": string(rehearsalProgram), "etc/passwd": "root:x:0:0:root:/:/bin/true\n", "etc/group": "root:x:0:\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			return fmt.Errorf("make a root file system for a rehearsal: %w", err)
		}
	}
	return nil
}
