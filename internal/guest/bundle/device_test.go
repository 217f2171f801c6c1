package bundle

import (
	"context"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	agent "dougong.dev/dougong/api/agent/v1"
)

// knownDisks finds /dev/zero, whose numbers are the same everywhere.
type knownDisks struct{ mounter }

func (knownDisks) Disk(_ context.Context, serial string) (string, error) {
	if serial == "zero" {
		return "/dev/zero", nil
	}
	return "", errdefs.ErrNotFound
}

func deviceSpec(major, minor int64) *specs.Spec {
	return &specs.Spec{Linux: &specs.Linux{
		Devices: []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}, {Path: "/dev/x", Type: "b", Major: major, Minor: minor}},
		Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
			{Access: "rwm"}, {Allow: true, Type: "c", Major: new(int64(7)), Minor: new(int64(2)), Access: "r"},
			{Allow: true, Type: "b", Major: &major, Minor: &minor, Access: "rwm"},
		}},
	}}
}

func TestDevicesGetTheGuestsNumbers(t *testing.T) {
	spec := deviceSpec(7, 2)
	err := adaptDevices(t.Context(), knownDisks{}, spec, []*agent.BlockDevice{{Serial: "zero", Major: 7, Minor: 2}})
	if err != nil {
		t.Fatal(err)
	}
	want := deviceSpec(1, 5)
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Error(diff)
	}
}

func TestDevicesOfOthersAreRefused(t *testing.T) {
	if err := adaptDevices(t.Context(), knownDisks{}, deviceSpec(254, 0), nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("numbers of the host pass: %v", err)
	}
	err := adaptDevices(t.Context(), knownDisks{}, deviceSpec(7, 2), []*agent.BlockDevice{{Serial: "other", Major: 7, Minor: 2}})
	if !errdefs.IsNotFound(err) {
		t.Errorf("a disk that is not there: %v", err)
	}
}
