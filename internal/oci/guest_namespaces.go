package oci

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hostNamespaces are the types a spec must name, as without them it asks for
// the host's own, which a VM cannot give.
var hostNamespaces = []specs.LinuxNamespaceType{
	specs.NetworkNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace,
}

// OfVM in GuestOptions.Namespaces has a container live in the VM's own namespace.
const OfVM = "vm"

// guestNamespaces drops the network namespace, as the VM's network is the
// container's, and always gives a cgroup namespace: hosts on cgroup v1 leave it
// out, and a container has no business in the guest's cgroup tree.
func guestNamespaces(plan *GuestPlan, opts GuestOptions) error {
	var out []specs.LinuxNamespace
	seen := map[specs.LinuxNamespaceType]bool{}
	for i, ns := range plan.Spec.Linux.Namespaces {
		if seen[ns.Type] {
			return invalid("linux.namespaces names %q twice", ns.Type)
		}
		seen[ns.Type] = true
		if ns.Type == specs.NetworkNamespace {
			if opts.OwnNetwork {
				out = append(out, specs.LinuxNamespace{Type: ns.Type})
			}
			continue
		}
		if ns.Type == specs.TimeNamespace && ns.Path == "" {
			// Without offsets, which are refused, its clocks are those outside, and
			// the VM has clocks of its own.
			continue
		}
		path, err := guestNamespacePath(i, ns, opts)
		if err != nil {
			return err
		}
		if path != OfVM {
			out = append(out, specs.LinuxNamespace{Type: ns.Type, Path: path})
		} else if ns.Type == specs.UTSNamespace {
			// The VM has the pod's name already.
			plan.Spec.Hostname, plan.Spec.Domainname = "", ""
		}
	}
	for _, t := range hostNamespaces {
		if !seen[t] {
			return unsupported("linux.namespaces", fmt.Sprintf("without %q the spec asks for the host's own, which a VM cannot share", t))
		}
	}
	if !seen[specs.CgroupNamespace] {
		out = append(out, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	plan.Spec.Linux.Namespaces = out
	return nil
}

func guestNamespacePath(i int, ns specs.LinuxNamespace, opts GuestOptions) (string, error) {
	switch ns.Type {
	case specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace, specs.UserNamespace, specs.MountNamespace:
	case specs.TimeNamespace:
		return "", unsupported(fmt.Sprintf("linux.namespaces[%d].type %q", i, ns.Type), "the guest's crun cannot join time namespaces")
	default:
		return "", unsupported(fmt.Sprintf("linux.namespaces[%d].type %q", i, ns.Type), "this namespace is not known")
	}
	if ns.Path == "" {
		return "", nil
	}
	if path, ok := opts.Namespaces[ns.Path]; ok && ns.Type != specs.MountNamespace {
		return path, nil
	}
	return "", unsupported(fmt.Sprintf("linux.namespaces[%d].path %q", i, ns.Path), "it is no namespace of a container in this sandbox")
}
