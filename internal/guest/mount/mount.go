// Package mount mounts file systems in the guest.
//
// It owns the meaning of mount options and the finding of sources. It must not
// know what a file system is for.
package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	agent "dougong.dev/dougong/api/agent/v1"
)

// SerialPrefix marks a source that is a disk's serial number.
const SerialPrefix = "serial:"

// deviceTimeout is how long a device may take to be attached.
const deviceTimeout = 30 * time.Second

// devices is where devices that are still being attached are waited for.
type devices interface {
	Disk(ctx context.Context, serial string) (string, error)
	Await(ctx context.Context, try func() (bool, error)) error
}

// Mounter mounts and unmounts.
type Mounter struct {
	devices devices
}

// New returns a Mounter that finds devices by from.
func New(from devices) *Mounter { return &Mounter{devices: from} }

// All mounts everything in order; after a failure nothing of it stays.
func (m *Mounter) All(ctx context.Context, mounts []*agent.Mount) error {
	for i, one := range mounts {
		if err := m.One(ctx, one); err != nil {
			for _, done := range slices.Backward(mounts[:i]) {
				err = errors.Join(err, Unmount(done.Target))
			}
			return err
		}
	}
	return nil
}

// One makes the target when it is missing, and mounts.
func (m *Mounter) One(ctx context.Context, one *agent.Mount) error {
	if !filepath.IsAbs(one.Target) || filepath.Clean(one.Target) != one.Target {
		return fmt.Errorf("mount target %q is no clean absolute path: %w", one.Target, errdefs.ErrInvalidArgument)
	}
	source, err := m.source(ctx, one.Source)
	if err == nil {
		one, err = m.parts(ctx, one)
	}
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", one.Type, one.Target, err)
	}
	if err := m.mount(ctx, one, source); err != nil {
		return fmt.Errorf("mount %s %q on %s: %w", one.Type, one.Source, one.Target, err)
	}
	if err := finish(one); err != nil {
		return errors.Join(err, Unmount(one.Target))
	}
	return nil
}

// finish sees to the owners of what is mounted.
func finish(one *agent.Mount) error {
	if one.Group != 0 {
		if err := giveTo(one.Target, one.Group); err != nil {
			return fmt.Errorf("give what is on %s to group %d: %w", one.Target, one.Group, err)
		}
	}
	if len(one.Uids)+len(one.Gids) == 0 {
		return nil
	}
	return mapOwners(one)
}

// parts finds the further disks of a file system that consists of several.
func (m *Mounter) parts(ctx context.Context, one *agent.Mount) (*agent.Mount, error) {
	const device = "device="
	if !slices.ContainsFunc(one.Options, func(o string) bool { return strings.HasPrefix(o, device+SerialPrefix) }) {
		return one, nil
	}
	found := proto.CloneOf(one)
	for i, o := range found.Options {
		part, ok := strings.CutPrefix(o, device)
		if !ok {
			continue
		}
		node, err := m.source(ctx, part)
		if err != nil {
			return one, err
		}
		found.Options[i] = device + node
	}
	return found, nil
}

func (m *Mounter) source(ctx context.Context, source string) (string, error) {
	serial, ok := strings.CutPrefix(source, SerialPrefix)
	if !ok {
		return source, nil
	}
	return m.Disk(ctx, serial)
}

// Disk is the node of the disk with a serial number, which may yet have to come.
func (m *Mounter) Disk(ctx context.Context, serial string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deviceTimeout)
	defer cancel()
	return m.devices.Disk(ctx, serial)
}

// mount waits for the device of a share, whose tag nothing but a mount finds:
// the kernel calls an unknown one an invalid argument.
func (m *Mounter) mount(ctx context.Context, one *agent.Mount, source string) error {
	if one.Type != "virtiofs" {
		return mount(one, source)
	}
	ctx, cancel := context.WithTimeout(ctx, deviceTimeout)
	defer cancel()
	return m.devices.Await(ctx, func() (bool, error) {
		err := mount(one, source)
		if errors.Is(err, unix.EINVAL) {
			return false, nil
		}
		return err == nil, err
	})
}

func mount(one *agent.Mount, source string) error {
	o := parse(one.Options)
	if err := makeTarget(one.Type, source, one.Target); err != nil {
		return err
	}
	fstype := one.Type
	if fstype == "bind" {
		o.flags |= unix.MS_BIND
		fstype = ""
	}
	if o.flags&unix.MS_BIND == 0 {
		if err := unix.Mount(source, one.Target, fstype, o.flags, o.data); err != nil {
			return err
		}
		return o.propagate(one.Target)
	}
	if err := unix.Mount(source, one.Target, "", o.flags&(unix.MS_BIND|unix.MS_REC), ""); err != nil {
		return err
	}
	if err := o.rebind(one.Target); err != nil {
		return errors.Join(err, Unmount(one.Target))
	}
	return nil
}

// rebind sets the flags of a bind mount, which the kernel ignores when it is
// made.
func (o options) rebind(target string) error {
	if rest := o.flags &^ (unix.MS_BIND | unix.MS_REC); rest != 0 {
		if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|rest, ""); err != nil {
			return err
		}
	}
	return o.propagate(target)
}

func (o options) propagate(target string) error {
	if o.propagation == 0 {
		return nil
	}
	return unix.Mount("", target, "", o.propagation, "")
}

// makeTarget makes what is mounted on: a file for the bind of a file, else a
// directory.
func makeTarget(fstype, source, target string) error {
	if _, err := os.Lstat(target); err == nil {
		return nil
	}
	if fstype == "bind" {
		info, err := os.Stat(source)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return makeFile(target)
		}
	}
	return os.MkdirAll(target, 0o755)
}

func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// Unmount unmounts the topmost mount of target. One that is in use is taken
// out of sight at once and ends with its last user.
func Unmount(target string) error {
	err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: nothing is mounted there: %w", target, errdefs.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}
