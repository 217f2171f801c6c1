package oci

import (
	"maps"
	"runtime"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// Features says what of the runtime specification a container can ask for, in
// the specification's own form.
func Features() *features.Features {
	options := slices.Concat(mountFlags, mapOptions)
	for data := range maps.Values(mountData) {
		options = append(options, data...)
	}
	slices.Sort(options)
	yes, no := true, false
	return &features.Features{
		OCIVersionMin: "1.0.0", OCIVersionMax: specs.Version,
		Hooks:        []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions: slices.Compact(options),
		Linux: &features.Linux{
			Namespaces:   []string{"cgroup", "ipc", "mount", "network", "pid", "user", "uts"},
			Capabilities: slices.Clone(allCapabilities),
			Cgroup:       &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &no, Rdma: &no},
			Seccomp: &features.Seccomp{
				Enabled:   &yes,
				Actions:   []string{"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"},
				Operators: []string{"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"},
				Archs:     archNames(runtime.GOARCH),
			},
			Apparmor: &features.Apparmor{Enabled: &no},
			Selinux:  &features.Selinux{Enabled: &no},
			IntelRdt: &features.IntelRdt{Enabled: &no},
			MountExtensions: &features.MountExtensions{
				IDMap: &features.IDMap{Enabled: &yes},
			},
		},
	}
}

func archNames(arch string) []string {
	var names []string
	for _, a := range seccompArchitectures(arch) {
		names = append(names, string(a))
	}
	return names
}

// Example is the spec of a container that runs a shell in a terminal, with its
// root file system in the bundle's directory rootfs.
func Example() *specs.Spec {
	args := []string{"sh"}
	spec := &specs.Spec{
		Version: GuestVersion,
		Process: &specs.Process{
			Terminal: true, Args: args, Cwd: "/",
			Env:     []string{"PATH=" + DefaultPath, "TERM=xterm"},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 1024}}, NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{},
		},
		Root: &specs.Root{Path: "rootfs", Readonly: true}, Hostname: "dougong",
		Mounts: defaultMounts(false),
		Linux: &specs.Linux{
			Namespaces: newNamespaces(), MaskedPaths: slices.Clone(maskedPaths), ReadonlyPaths: slices.Clone(readonlyPaths),
			Resources: &specs.LinuxResources{Devices: deviceRules(false)},
		},
	}
	few := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	for _, set := range []*[]string{&spec.Process.Capabilities.Bounding, &spec.Process.Capabilities.Effective, &spec.Process.Capabilities.Permitted} {
		*set = slices.Clone(few)
	}
	return spec
}
