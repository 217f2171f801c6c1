package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
)

// numbers are those of a device node.
type numbers struct{ major, minor int64 }

// linuxField is where a spec has its devices.
const linuxField = "linux"

// adaptDevices puts the numbers of disks into the spec in place of the host's.
// A spec without disks, as most are, is not taken apart for it.
func (s *spec) adaptDevices(ctx context.Context, m mounter, devices []*agent.BlockDevice) error {
	var nodes struct{ Devices []struct{ Type string } }
	raw := s.rest[linuxField]
	if raw == nil {
		return nil
	}
	if err := json.Unmarshal(raw, &nodes); err != nil {
		return fmt.Errorf("devices of the spec: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	isDisk := func(d struct{ Type string }) bool { return d.Type == "b" }
	if len(devices) == 0 && !slices.ContainsFunc(nodes.Devices, isDisk) {
		return nil
	}
	var linux specs.Linux
	if err := json.Unmarshal(raw, &linux); err != nil {
		return fmt.Errorf("linux section of the spec: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := adaptDevices(ctx, m, &linux, devices); err != nil {
		return err
	}
	changed, err := json.Marshal(&linux)
	if err != nil {
		return fmt.Errorf("encode linux section of the spec: %w", err)
	}
	s.rest[linuxField] = changed
	return nil
}

func adaptDevices(ctx context.Context, m mounter, linux *specs.Linux, devices []*agent.BlockDevice) error {
	known := make(map[numbers]numbers)
	for _, d := range devices {
		node, err := m.Disk(ctx, d.Serial)
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Stat(node, &stat); err != nil {
			return fmt.Errorf("look at disk %s: %w", node, err)
		}
		known[numbers{d.Major, d.Minor}] = numbers{int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))}
	}
	return renumber(linux, known)
}

// renumber replaces the numbers of block devices. Numbers of no disk of the
// container's must not get through: they may be those of another one.
func renumber(linux *specs.Linux, known map[numbers]numbers) error {
	for i := range linux.Devices {
		d := &linux.Devices[i]
		if d.Type != "b" {
			continue
		}
		n, ok := known[numbers{d.Major, d.Minor}]
		if !ok {
			return fmt.Errorf("device %s (b %d:%d) is no disk of this machine: %w", d.Path, d.Major, d.Minor, errdefs.ErrInvalidArgument)
		}
		d.Major, d.Minor = n.major, n.minor
	}
	if linux.Resources == nil {
		return nil
	}
	for i := range linux.Resources.Devices {
		r := &linux.Resources.Devices[i]
		if r.Type != "b" || r.Major == nil || r.Minor == nil {
			continue
		}
		if n, ok := known[numbers{*r.Major, *r.Minor}]; ok {
			r.Major, r.Minor = &n.major, &n.minor
		}
	}
	return nil
}
