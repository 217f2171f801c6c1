// Package storage decides how the root file system and the bind mounts of a
// container reach its VM: as disks, as directories of the sandbox's share, or
// as memory of the guest.
//
// The plan is a function from data to data; Tree is the thin edge that does
// the mounts on the host side. It must not talk to the VMM or to the guest.
package storage

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
)

const (
	// Tag is the name of the one share of a sandbox.
	Tag = "dougong"
	// GuestShare is where the guest mounts the share.
	GuestShare = "/run/dougong/shared"
)

// Mount is a mount as containerd hands it to a shim.
type Mount struct {
	Type, Source, Target string
	Options              []string
}

// Bind is a host path that a container asked for.
type Bind struct {
	// Source is an absolute host path.
	Source string
	// ReadOnly is enforced on the host, whatever the guest does.
	ReadOnly bool
	// ReadOnlyBelow extends ReadOnly to the mounts below Source.
	ReadOnlyBelow bool
	// Recursive takes the mounts below Source along.
	Recursive bool
	// Owners maps the owners of files on the host to those that the guest sees, and
	// the other way round for files that the guest makes.
	Owners idmap.Map
	// OwnersBelow extends Owners to the mounts below Source.
	OwnersBelow bool
	// Name is that of the entry in the share; empty for one of the container's own.
	Name string
}

// Request is what one container needs.
type Request struct {
	ContainerID string
	Rootfs      []Mount
	Binds       []Bind
	// Devices are the block devices of the container.
	Devices []Device
	// WritableSize bounds the writable layer kept in guest memory, in the
	// notation of tmpfs: "50%", "256m".
	WritableSize string
}

// Disk is a file or block device that becomes a disk of the VM.
type Disk struct {
	Serial, Path string
	ReadOnly     bool
}

// Entry is a host directory or file that becomes visible in the share.
type Entry struct {
	// Name is its path below the share.
	Name string
	// Mount makes it appear on the host; for a bind Type is "bind".
	Mount Mount
	// ReadOnly, ReadOnlyBelow and Recursive are as in Bind.
	ReadOnly, ReadOnlyBelow, Recursive bool
	// Owners and OwnersBelow are, too. Of an overlay they are those of its lower
	// directories: the upper one has such owners already.
	Owners      idmap.Map
	OwnersBelow bool
}

// Plan says what to attach and what to tell the guest.
type Plan struct {
	Disks   []Disk
	Entries []Entry
	// Rootfs is for the agent's CreateBundle.
	Rootfs *agentapi.Rootfs
	// BindSources are the guest paths of Request.Binds, in their order.
	BindSources []string
	// DeviceSerials are the disks of Request.Devices, in their order.
	DeviceSerials []string
}

// NeedsShare reports whether the VM needs a file sharing daemon.
func (p *Plan) NeedsShare() bool { return len(p.Entries) > 0 }

// Images are the disks that file systems are on, without those that the
// container has as such.
func (p *Plan) Images() []Disk { return p.Disks[:len(p.Disks)-len(p.DeviceSerials)] }

// Bare are the disks of Request.Devices.
func (p *Plan) Bare() []Disk { return p.Disks[len(p.Disks)-len(p.DeviceSerials):] }

// SharedPath is the guest's path of an entry.
func (e Entry) SharedPath() string { return path.Join(GuestShare, e.Name) }

// Lasting reports whether the VM can write to something that outlives it.
func (p *Plan) Lasting() bool {
	return slices.ContainsFunc(p.Disks, func(d Disk) bool { return !d.ReadOnly }) ||
		slices.ContainsFunc(p.Entries, func(e Entry) bool { return !e.ReadOnly })
}

// New plans the storage of one container.
func New(r Request) (*Plan, error) {
	p := &Plan{}
	if err := p.rootfs(r); err != nil {
		return nil, err
	}
	for i, b := range r.Binds {
		if !path.IsAbs(b.Source) {
			return nil, fmt.Errorf("bind mount of %q: the source must be an absolute path: %w", b.Source, errdefs.ErrInvalidArgument)
		}
		name := cmp.Or(b.Name, fmt.Sprintf("%s/bind-%d", r.ContainerID, i))
		p.Entries = append(p.Entries, Entry{
			Name: name, Mount: Mount{Type: "bind", Source: b.Source},
			ReadOnly: b.ReadOnly, ReadOnlyBelow: b.ReadOnlyBelow, Recursive: b.Recursive,
			Owners: b.Owners, OwnersBelow: b.OwnersBelow,
		})
		p.BindSources = append(p.BindSources, path.Join(GuestShare, name))
	}
	for i, d := range r.Devices {
		p.device(r, i, d)
	}
	return p, nil
}

// diskTypes are file systems that the guest mounts from a disk by itself.
var diskTypes = []string{"erofs", "ext4"}

func (p *Plan) rootfs(r Request) error {
	if len(r.Rootfs) == 0 {
		return fmt.Errorf("container %s has no root file system: %w", r.ContainerID, errdefs.ErrInvalidArgument)
	}
	if isReferring(r.Rootfs[len(r.Rootfs)-1]) {
		return p.referring(r)
	}
	p.Rootfs = &agentapi.Rootfs{}
	writable := false
	// The topmost layer comes last in a list of mounts and first in a list
	// of overlay directories.
	for i, m := range slices.Backward(r.Rootfs) {
		lower, rw, err := p.lower(r, i, m)
		if err != nil {
			return err
		}
		p.Rootfs.Lowers = append(p.Rootfs.Lowers, lower)
		writable = writable || rw
	}
	if writable && len(r.Rootfs) > 1 {
		return fmt.Errorf("root file system of container %s has %d mounts and not all are read-only: %w", r.ContainerID, len(r.Rootfs), errdefs.ErrNotImplemented)
	}
	if !writable {
		p.Rootfs.Writable = r.memory()
	}
	return nil
}

// lower plans one mount of the root file system and reports whether the
// container may write to it directly.
func (p *Plan) lower(r Request, i int, m Mount) (*agentapi.Mount, bool, error) {
	readOnly := slices.Contains(m.Options, "ro")
	switch {
	case slices.Contains(diskTypes, m.Type):
		readOnly = readOnly || m.Type == "erofs"
		serial := Serial(r.ContainerID, i)
		p.Disks = append(p.Disks, Disk{Serial: serial, Path: m.Source, ReadOnly: readOnly})
		options := p.parts(r, i, diskOptions(m.Options, readOnly))
		return &agentapi.Mount{Type: m.Type, Source: serialPrefix + serial, Options: options}, !readOnly, nil
	case m.Type == "bind" || m.Type == "overlay":
		name := fmt.Sprintf("%s/rootfs-%d", r.ContainerID, i)
		e := Entry{Name: name, Mount: m, ReadOnly: readOnly, ReadOnlyBelow: readOnly, Recursive: slices.Contains(m.Options, "rbind")}
		var err error
		if e.Mount.Options, e.Owners, err = takeOwners(m.Options); err != nil {
			return nil, false, fmt.Errorf("root file system at %q: %w", m.Source, err)
		}
		p.Entries = append(p.Entries, e)
		return &agentapi.Mount{Type: "bind", Source: path.Join(GuestShare, name)}, !readOnly, nil
	}
	return nil, false, fmt.Errorf("root file system of type %q at %q: %w", m.Type, m.Source, errdefs.ErrNotImplemented)
}

// serialPrefix marks a disk where a file would be named.
const serialPrefix = "serial:"

// maxParts is above the number of files that a file system can consist of.
const maxParts = 1000

// parts plans the further files of an EROFS that consists of several, which
// its options name, as disks.
func (p *Plan) parts(r Request, i int, options []string) []string {
	for j, o := range options {
		file, ok := strings.CutPrefix(o, "device=")
		if !ok {
			continue
		}
		serial := Serial(r.ContainerID, maxParts*(i+1)+j)
		p.Disks = append(p.Disks, Disk{Serial: serial, Path: file, ReadOnly: true})
		options[j] = "device=" + serialPrefix + serial
	}
	return options
}

// diskOptions drops what concerns only the host's way of mounting.
func diskOptions(options []string, readOnly bool) []string {
	keep := slices.DeleteFunc(slices.Clone(options), func(o string) bool {
		return o == "loop" || o == "rw" || o == "ro" || strings.HasPrefix(o, "X-")
	})
	if readOnly {
		keep = append(keep, "ro")
	}
	return keep
}

// UseSerials gives the plan's images other serial numbers, by their place among
// the disks, wherever the guest is told of them.
func (p *Plan) UseSerials(serial func(i int) string) {
	renamed := map[string]string{}
	images := p.Images()
	for i := range images {
		d := &images[i]
		renamed[d.Serial] = serial(i)
		d.Serial = renamed[d.Serial]
	}
	mounts := slices.Clone(p.Rootfs.GetLowers())
	if w := p.Rootfs.GetWritable().GetMount(); w != nil {
		mounts = append(mounts, w)
	}
	for _, m := range mounts {
		m.Source = renameDisk(m.Source, "", renamed)
		for i, o := range m.Options {
			m.Options[i] = renameDisk(o, "device=", renamed)
		}
	}
}

// renameDisk renames the disk that text names after prefix, if it does.
func renameDisk(text, prefix string, renamed map[string]string) string {
	serial, ok := strings.CutPrefix(text, prefix+serialPrefix)
	if to := renamed[serial]; ok && to != "" {
		return prefix + serialPrefix + to
	}
	return text
}

// Serial is the serial number, at most 20 bytes, of the i-th disk of a container.
func Serial(containerID string, i int) string {
	sum := sha256.Sum256([]byte(containerID))
	return fmt.Sprintf("%s-%d", hex.EncodeToString(sum[:6]), i)
}
