package storage

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
)

// containerd's erofs snapshotter describes an overlay by mounts that end with
// one that refers to those before it:
//
//	erofs                 /…/snapshots/2/layer.erofs   ro,loop
//	erofs                 /…/snapshots/1/layer.erofs   ro,loop
//	format/mkdir/overlay  overlay                      workdir=/…/3/work,upperdir=/…/3/fs,lowerdir={{ overlay 0 1 }}
//
// With a bounded writable layer, an ext4 image comes first and upperdir and
// workdir are on it, as in upperdir={{ mount 0 }}/upper.

// isReferring reports whether a mount refers to others before it.
func isReferring(m Mount) bool { return strings.HasPrefix(m.Type, "format/") }

// reference is a directory on one of the mounts, or on the host.
var reference = regexp.MustCompile(`^\{\{ *(mount|overlay) +(\d+)(?: +(\d+))? *\}\}(/[^{}]*)?$`)

// parseReference returns the mounts from first to last and the path below them.
func parseReference(s string, count int) (first, last int, below string, err error) {
	parts := reference.FindStringSubmatch(s)
	if parts == nil {
		return 0, 0, "", fmt.Errorf("root file system: %q is no reference to a mount: %w", s, errdefs.ErrInvalidArgument)
	}
	first, err = strconv.Atoi(parts[2])
	last = first
	if err == nil && parts[3] != "" {
		last, err = strconv.Atoi(parts[3])
	}
	if err != nil || max(first, last) >= count || (parts[1] == "mount") != (parts[3] == "") {
		return 0, 0, "", fmt.Errorf("root file system: %q refers to no mount: %w", s, errdefs.ErrInvalidArgument)
	}
	return first, last, parts[4], nil
}

// referring plans mounts of which the last refers to the others.
func (p *Plan) referring(r Request) error {
	mounts, top := r.Rootfs[:len(r.Rootfs)-1], r.Rootfs[len(r.Rootfs)-1]
	switch top.Type {
	case "format/bind":
		first, last, below, err := parseReference(top.Source, len(mounts))
		if err != nil || below != "" || !slices.Contains(top.Options, "ro") {
			return fmt.Errorf("root file system of container %s: bind of %q: %w", r.ContainerID, top.Source, errdefs.ErrNotImplemented)
		}
		_, owners, err := takeOwners(top.Options)
		if err != nil {
			return fmt.Errorf("root file system of container %s: %w", r.ContainerID, err)
		}
		p.Rootfs = &agentapi.Rootfs{Writable: r.memory()}
		return p.lowers(r, mounts, first, last, owners)
	case "format/mkdir/overlay", "format/overlay":
		return p.overlay(r, mounts, top)
	}
	return fmt.Errorf("root file system of type %q: %w", top.Type, errdefs.ErrNotImplemented)
}

// overlayOptions are those of the host's overlay that mean nothing in the
// guest, up to "=".
var overlayOptions = []string{"index", "metacopy", "redirect_dir", "volatile", "ro", "X-containerd.mkdir.path", "xino"}

func (p *Plan) overlay(r Request, mounts []Mount, top Mount) error {
	var upper, work, lower string
	options, owners, err := takeOwners(top.Options)
	if err != nil {
		return fmt.Errorf("root file system of container %s: %w", r.ContainerID, err)
	}
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch {
		case key == "upperdir":
			upper = value
		case key == "workdir":
			work = value
		case key == "lowerdir":
			lower = value
		case slices.Contains(overlayOptions, key):
		default:
			return fmt.Errorf("root file system: overlay option %q: %w", o, errdefs.ErrNotImplemented)
		}
	}
	first, last, _, err := parseReference(lower, len(mounts))
	if err != nil {
		return err
	}
	p.Rootfs = &agentapi.Rootfs{}
	if err := p.lowers(r, mounts, first, last, owners); err != nil {
		return err
	}
	p.Rootfs.Writable, err = p.upper(r, mounts, upper, work)
	return err
}

// lowers plans the mounts from first to last, the topmost first, as disks.
func (p *Plan) lowers(r Request, mounts []Mount, first, last int, owners idmap.Map) error {
	step := 1
	if last < first {
		step = -1
	}
	for i := first; i != last+step; i += step {
		m := mounts[i]
		if m.Type != "erofs" {
			return fmt.Errorf("root file system: layer of type %q: %w", m.Type, errdefs.ErrNotImplemented)
		}
		lower, _, err := p.lower(r, i, m)
		if err != nil {
			return err
		}
		lower.Uids, lower.Gids = OwnerMessages(owners)
		p.Rootfs.Lowers = append(p.Rootfs.Lowers, lower)
	}
	return nil
}

// upper plans the writable layer: an image of its own, a directory of the
// host, or memory where there is none.
func (p *Plan) upper(r Request, mounts []Mount, upper, work string) (*agentapi.Writable, error) {
	if upper == "" {
		return r.memory(), nil
	}
	w := &agentapi.Writable{}
	if strings.HasPrefix(upper, "{{") {
		i, _, below, err := parseReference(upper, len(mounts))
		if err != nil {
			return nil, err
		}
		j, _, workBelow, err := parseReference(work, len(mounts))
		if err != nil {
			return nil, err
		}
		if i != j || path.Dir(below) != "/" || path.Dir(workBelow) != "/" {
			return nil, fmt.Errorf("root file system: upperdir %s with workdir %s: %w", upper, work, errdefs.ErrNotImplemented)
		}
		w.Upper, w.Work = path.Base(below), path.Base(workBelow)
		w.Mount, _, err = p.lower(r, i, mounts[i])
		return w, err
	}
	dir := path.Dir(upper)
	if !path.IsAbs(upper) || dir != path.Dir(work) || dir == "/" {
		return nil, fmt.Errorf("root file system: upperdir %s with workdir %s: %w", upper, work, errdefs.ErrNotImplemented)
	}
	w.Upper, w.Work = path.Base(upper), path.Base(work)
	name := r.ContainerID + "/writable"
	p.Entries = append(p.Entries, Entry{Name: name, Mount: Mount{Type: "bind", Source: dir}})
	w.Mount = &agentapi.Mount{Type: "bind", Source: path.Join(GuestShare, name)}
	// The file sharing daemon may not write the attributes of a trusted overlay.
	w.Options = []string{"userxattr"}
	return w, nil
}

// memory is a writable layer in the guest's memory.
func (r Request) memory() *agentapi.Writable {
	return &agentapi.Writable{Mount: &agentapi.Mount{
		Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=0755", "size=" + r.WritableSize},
	}}
}
