package shim

import (
	"fmt"
	"maps"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	cri "dougong.dev/dougong/api/cri/v1"
	"dougong.dev/dougong/internal/oci"
)

// podConfig reads the description of a pod from the options of a sandbox.
func podConfig(options *anypb.Any) (*cri.PodSandboxConfig, error) {
	config := &cri.PodSandboxConfig{}
	url := options.GetTypeUrl()
	if url[strings.LastIndexByte(url, '/')+1:] != "runtime.v1.PodSandboxConfig" {
		return config, nil
	}
	if err := proto.Unmarshal(options.GetValue(), config); err != nil {
		return nil, fmt.Errorf("read the pod's configuration: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return config, nil
}

// podSpec is the spec of the container that stands for a pod, as CRI would
// write it: what of it is not run is left out.
func podSpec(id, netns string, config *cri.PodSandboxConfig, annotations map[string]string) *specs.Spec {
	spec := &specs.Spec{
		Version: oci.GuestVersion, Hostname: config.GetHostname(), Process: &specs.Process{Args: []string{"pause"}, Cwd: "/"},
		Annotations: map[string]string{}, Linux: &specs.Linux{Sysctl: config.GetLinux().GetSysctls()},
	}
	spec.Linux.CgroupsPath = podCgroup(config.GetLinux().GetCgroupParent(), id)
	maps.Copy(spec.Annotations, config.GetAnnotations())
	maps.Copy(spec.Annotations, annotations)
	maps.Copy(spec.Annotations, limitAnnotations(config.GetLinux().GetResources()))
	spec.Annotations["io.kubernetes.cri.container-type"] = "sandbox"
	spec.Annotations["io.kubernetes.cri.sandbox-id"] = id
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	add := func(kind specs.LinuxNamespaceType, mode cri.NamespaceMode, at string) {
		if mode != cri.NamespaceMode_NAMESPACE_MODE_NODE {
			spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: at})
		}
	}
	add(specs.MountNamespace, 0, "")
	add(specs.UTSNamespace, 0, "")
	add(specs.NetworkNamespace, options.GetNetwork(), netns)
	add(specs.PIDNamespace, options.GetPid(), "")
	add(specs.IPCNamespace, options.GetIpc(), "")
	if users := options.GetUsernsOptions(); users != nil {
		add(specs.UserNamespace, users.GetMode(), "")
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = idMappings(users.GetUids()), idMappings(users.GetGids())
	}
	return spec
}

// checkUsers refuses what the user namespace of a pod cannot be. containerd does so
// for pods that it makes itself.
func checkUsers(users *cri.UserNamespace) error {
	const node, pod = cri.NamespaceMode_NAMESPACE_MODE_NODE, cri.NamespaceMode_NAMESPACE_MODE_POD_UNSPECIFIED
	uids, gids := users.GetUids(), users.GetGids()
	switch mode := users.GetMode(); {
	case users == nil, mode == node && len(uids)+len(gids) == 0:
		return nil
	case mode != pod:
		return fmt.Errorf("the pod's user namespace: mode %s with %d mappings of users and %d of groups: %w", mode, len(uids), len(gids), errdefs.ErrInvalidArgument)
	case len(uids) != 1 || len(gids) != 1:
		return fmt.Errorf("the pod's user namespace: want one mapping of users and one of groups, got %d and %d: %w", len(uids), len(gids), errdefs.ErrInvalidArgument)
	}
	return nil
}

// podCgroup is where containerd puts the container that stands for a pod: below a
// path, or as a scope in a slice of systemd's. Without a parent it says nothing.
func podCgroup(parent, id string) string {
	switch {
	case parent == "":
		return ""
	case strings.HasSuffix(parent, ".slice"):
		return path.Base(parent) + ":cri-containerd:" + id
	}
	return path.Join(parent, id)
}

func idMappings(in []*cri.IDMapping) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	for _, m := range in {
		out = append(out, specs.LinuxIDMapping{ContainerID: m.GetContainerId(), HostID: m.GetHostId(), Size: m.GetLength()})
	}
	return out
}

// limitAnnotations are what containerd tells of a pod's limits.
func limitAnnotations(r *cri.LinuxContainerResources) map[string]string {
	out := map[string]string{}
	for name, value := range map[string]int64{
		"cpu-period": r.GetCpuPeriod(), "cpu-quota": r.GetCpuQuota(), "cpu-shares": r.GetCpuShares(), "memory": r.GetMemoryLimitInBytes(),
	} {
		if value != 0 {
			out["io.kubernetes.cri.sandbox-"+name] = strconv.FormatInt(value, 10)
		}
	}
	return out
}

// podFiles are those of a pod that its containers have unless they bring their
// own, by their paths. What the pod says nothing about is the host's.
func podFiles(config *cri.PodSandboxConfig, read func(name string) ([]byte, error)) (map[string]string, error) {
	files := map[string]string{}
	for _, name := range []string{"/etc/hosts", "/etc/resolv.conf"} {
		content, err := read(name)
		if err != nil {
			return nil, fmt.Errorf("make the pod's files: %w", err)
		}
		files[name] = string(content)
	}
	if host := config.GetHostname(); host != "" {
		files["/etc/hostname"] = host + "\n"
	}
	if dns := config.GetDnsConfig(); len(dns.GetServers())+len(dns.GetSearches())+len(dns.GetOptions()) > 0 {
		files["/etc/resolv.conf"] = resolvConf(dns)
	}
	return files, nil
}

func resolvConf(dns *cri.DNSConfig) string {
	var b strings.Builder
	if len(dns.GetSearches()) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.GetSearches(), " "))
	}
	for _, server := range dns.GetServers() {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(dns.GetOptions()) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.GetOptions(), " "))
	}
	return b.String()
}
