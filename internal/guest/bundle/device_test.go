package bundle

import (
	"context"
	"encoding/json"
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
			{Access: "rwm"},
			{Allow: true, Type: "c", Major: new(int64(7)), Minor: new(int64(2)), Access: "r"},
			{Allow: true, Type: "b", Major: &major, Minor: &minor, Access: "rwm"},
		}},
	}}
}

// adapt takes a spec through the guest's hands as it would come from the host.
func adapt(t *testing.T, host *specs.Spec, devices ...*agent.BlockDevice) (*specs.Linux, error) {
	t.Helper()
	host.Process = &specs.Process{Args: []string{"true"}}
	data, err := json.Marshal(host)
	if err != nil {
		t.Fatal(err)
	}
	s, err := parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.adaptDevices(t.Context(), knownDisks{}, devices); err != nil {
		return nil, err
	}
	var adapted specs.Spec
	if data, err = s.encode(); err == nil {
		err = json.Unmarshal(data, &adapted)
	}
	if err != nil {
		t.Fatal(err)
	}
	return adapted.Linux, nil
}

func TestDevicesGetTheGuestsNumbers(t *testing.T) {
	adapted, err := adapt(t, deviceSpec(7, 2), &agent.BlockDevice{Serial: "zero", Major: 7, Minor: 2})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(deviceSpec(1, 5).Linux, adapted); diff != "" {
		t.Error(diff)
	}
}

func TestDevicesOfOthersAreRefused(t *testing.T) {
	if _, err := adapt(t, deviceSpec(254, 0)); !errdefs.IsInvalidArgument(err) {
		t.Errorf("numbers of the host pass: %v", err)
	}
	_, err := adapt(t, deviceSpec(7, 2), &agent.BlockDevice{Serial: "other", Major: 7, Minor: 2})
	if !errdefs.IsNotFound(err) {
		t.Errorf("a disk that is not there: %v", err)
	}
}
