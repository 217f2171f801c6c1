package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/seccomp"
	"dougong.dev/dougong/internal/storage"
)

// readSpec reads the OCI spec of a bundle.
func readSpec(bundle string) (*specs.Spec, error) {
	path := filepath.Join(bundle, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read OCI spec: %w", err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(data, spec); err != nil {
		return nil, fmt.Errorf("read OCI spec %s: %w", path, err)
	}
	return spec, nil
}

// bundleRootfs is the root file system of a bundle that has it in place.
func bundleRootfs(bundle string, host *specs.Spec) []storage.Mount {
	if host.Root == nil || host.Root.Path == "" {
		return nil
	}
	path := host.Root.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(bundle, path)
	}
	m := storage.Mount{Type: "bind", Source: path, Options: []string{"rbind"}}
	if host.Root.Readonly {
		m.Options = append(m.Options, "ro")
	}
	return []storage.Mount{m}
}

// specBind is a bind mount with its place among the guest spec's mounts.
type specBind struct {
	index int
	bind  storage.Bind
}

// guestPlan translates the host's spec and lists the binds to attach.
func guestPlan(options oci.GuestOptions, bundle string, host *specs.Spec) (*oci.GuestPlan, []specBind, error) {
	plan, err := oci.Guest(host, options)
	if err != nil {
		return nil, nil, fmt.Errorf("OCI spec of container %s: %w", options.ID, err)
	}
	seccomp.Embed(plan.Spec)
	var binds []specBind
	for _, b := range plan.Binds {
		if !filepath.IsAbs(b.Source) {
			b.Source = filepath.Join(bundle, b.Source)
		}
		if info, err := os.Stat(b.Source); err == nil && !info.IsDir() {
			m := &plan.Spec.Mounts[b.Index]
			m.Options = oci.WithoutRecursion(m.Options)
		}
		owners, err := idmap.Of(b.Owners.UIDs, b.Owners.GIDs)
		if err != nil {
			return nil, nil, fmt.Errorf("mount %s: %w", b.Destination, err)
		}
		binds = append(binds, specBind{index: b.Index, bind: storage.Bind{
			Source: b.Source, ReadOnly: b.ReadOnly, ReadOnlyBelow: slices.Contains(b.Options, "rro"), Recursive: slices.Contains(b.Options, "rbind"),
			Owners: owners, OwnersBelow: b.Owners.Below,
		}})
	}
	return plan, binds, nil
}

// findDevices finds the block devices that a container has.
func findDevices(wanted []oci.BlockDevice) ([]storage.Device, error) {
	var devices []storage.Device
	for _, w := range wanted {
		d, err := storage.FindDevice("/sys", "/dev", w.Major, w.Minor)
		if err != nil {
			return nil, err
		}
		d.ReadOnly = d.ReadOnly || w.ReadOnly
		devices = append(devices, d)
	}
	return devices, nil
}

// guestDevices tells the guest which disks the container's block devices are.
func guestDevices(wanted []oci.BlockDevice, serials []string) []*agentapi.BlockDevice {
	var devices []*agentapi.BlockDevice
	for i, w := range wanted {
		devices = append(devices, &agentapi.BlockDevice{Serial: serials[i], Major: w.Major, Minor: w.Minor})
	}
	return devices
}

func bundleRequest(id string, rootfs *agentapi.Rootfs, guest *specs.Spec, files []*agentapi.File) (*agentapi.CreateBundleRequest, error) {
	if err := checkFiles(id, guest, files); err != nil {
		return nil, err
	}
	spec, err := json.Marshal(guest)
	if err != nil {
		return nil, fmt.Errorf("encode guest spec of container %s: %w", id, err)
	}
	return &agentapi.CreateBundleRequest{Id: id, Rootfs: rootfs, Spec: spec, Files: files}, nil
}

// checkFiles makes sure that the small files which a spec names are there.
func checkFiles(id string, guest *specs.Spec, files []*agentapi.File) error {
	for _, m := range guest.Mounts {
		dir, name := path.Split(m.Source)
		if dir+name != oci.GuestFile(id, name) {
			continue
		}
		if !slices.ContainsFunc(files, func(f *agentapi.File) bool { return f.Name == name }) {
			return fmt.Errorf("mount %s: the bundle has no file files/%s: %w", m.Destination, name, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
