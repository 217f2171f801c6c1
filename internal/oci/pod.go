package oci

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Role is what a container is to its sandbox.
type Role int

// The roles of a container.
const (
	// Single containers have a sandbox of their own, which ends with them.
	Single Role = iota
	// PodSandbox is the container that stands for a whole pod: it has nothing to
	// run, keeps the sandbox alive, and ends it.
	PodSandbox
	// PodContainer is one of the containers in a pod's sandbox.
	PodContainer
)

// podKeys are the annotations of one CRI implementation: the kind of a
// container, what it is for the one that stands for the pod, and for the pod's
// containers the id of that one.
type podKeys struct{ kind, sandbox, id string }

var podAnnotations = []podKeys{
	{"io.kubernetes.cri.container-type", "sandbox", "io.kubernetes.cri.sandbox-id"},
	{"io.kubernetes.cri-o.ContainerType", "sandbox", "io.kubernetes.cri-o.SandboxID"},
	{"io.kubernetes.docker.type", "podsandbox", "io.kubernetes.sandbox.id"},
}

// PodOf tells a container's role by its annotations, and for those of a pod
// the id of its sandbox.
func PodOf(id string, annotations map[string]string) (Role, string, error) {
	for _, keys := range podAnnotations {
		sandbox := annotations[keys.id]
		switch kind := annotations[keys.kind]; {
		case kind == keys.sandbox:
			return PodSandbox, id, nil
		case kind == "container" && sandbox == "":
			return Single, "", invalid("annotation %s is %q, but %s is missing", keys.kind, kind, keys.id)
		case kind == "container":
			return PodContainer, sandbox, nil
		case kind == "" && sandbox != "" && sandbox != id:
			return PodContainer, sandbox, nil
		case kind != "":
			return Single, "", invalid("annotation %s is %q: want %q or \"container\"", keys.kind, kind, keys.sandbox)
		}
	}
	return Single, "", nil
}

// PodPlan is what the spec of a pod's sandbox asks for.
type PodPlan struct {
	// Sysctls are set for the VM as a whole: its kernel is the pod's own, so
	// that none of them is unsafe to others. It is never nil.
	Sysctls map[string]string
	// Users is set when the pod's containers share a user namespace.
	Users *UserNamespace
	// Hooks are those to be run on the host, nil when there are none.
	Hooks *specs.Hooks
}

// UserNamespace maps ids of a pod's containers to those of the guest.
type UserNamespace struct {
	UIDs, GIDs []specs.LinuxIDMapping
}

// Pod translates the spec of the container that stands for a pod. Its process
// and root file system are of no matter, as they are not run.
func Pod(host *specs.Spec) (*PodPlan, error) {
	if host == nil || host.Linux == nil {
		return nil, invalid("the spec has no linux section")
	}
	plan := &PodPlan{Sysctls: dotted(host.Linux.Sysctl)}
	seen := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range host.Linux.Namespaces {
		seen[ns.Type] = true
	}
	for _, t := range hostNamespaces {
		if !seen[t] {
			return nil, unsupported("linux.namespaces", fmt.Sprintf("without %q the pod asks for the host's own, which a VM cannot share (hostNetwork, hostPID and hostIPC are not possible)", t))
		}
	}
	if seen[specs.UserNamespace] {
		plan.Users = &UserNamespace{UIDs: host.Linux.UIDMappings, GIDs: host.Linux.GIDMappings}
		if !hasRoot(plan.Users.UIDs) || !hasRoot(plan.Users.GIDs) {
			return nil, invalid("the pod's user namespace has no root: linux.uidMappings and gidMappings must map id 0")
		}
		plan.allowPing()
	}
	if host.Hooks != nil {
		hooks := *host.Hooks
		hooks.StartContainer = nil
		plan.Hooks = &hooks
	}
	return plan, nil
}

// pingGroups are the groups that may ping without a right to all packets.
const pingGroups = "net.ipv4.ping_group_range"

// allowPing has the containers of a pod with a user namespace ping without raw
// sockets: the network is the VM's, over which no right in that namespace counts.
func (p *PodPlan) allowPing() {
	if _, set := p.Sysctls[pingGroups]; !set {
		p.Sysctls[pingGroups] = "0 2147483647"
	}
}

func hasRoot(ids []specs.LinuxIDMapping) bool {
	return slices.ContainsFunc(ids, func(m specs.LinuxIDMapping) bool { return m.ContainerID == 0 && m.Size > 0 })
}

// dotted names sysctls with dots, as they may come with slashes too.
func dotted(sysctls map[string]string) map[string]string {
	out := make(map[string]string, len(sysctls))
	for name, value := range sysctls {
		out[strings.ReplaceAll(name, "/", ".")] = value
	}
	return out
}

// samePodSysctls returns an error when a container of a pod asks for sysctls
// other than the pod's, whose kernel it shares.
func samePodSysctls(pod, container map[string]string) error {
	wanted := dotted(container)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if value, ok := pod[name]; !ok || value != wanted[name] {
			return unsupported(fmt.Sprintf("linux.sysctl[%q]", name), "it is set for a pod as a whole, in its own security context")
		}
	}
	return nil
}
