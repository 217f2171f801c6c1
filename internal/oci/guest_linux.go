package oci

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// guestSysctls takes net.* out: crun refuses them without a network namespace
// of the container's own, and here the network is the VM's.
func guestSysctls(plan *GuestPlan, opts GuestOptions) error {
	linux := plan.Spec.Linux
	if opts.PodSysctls != nil {
		wanted := linux.Sysctl
		linux.Sysctl = nil
		return samePodSysctls(opts.PodSysctls, wanted)
	}
	for _, name := range slices.Sorted(maps.Keys(linux.Sysctl)) {
		dotted := strings.ReplaceAll(name, "/", ".")
		switch {
		case strings.HasPrefix(dotted, "net."):
			if plan.Sysctls == nil {
				plan.Sysctls = map[string]string{}
			}
			plan.Sysctls[dotted] = linux.Sysctl[name]
			delete(linux.Sysctl, name)
		case !isNamespaced(dotted):
			return unsupported(fmt.Sprintf("linux.sysctl[%q]", name), "it belongs to no namespace of a container")
		}
	}
	if len(linux.Sysctl) == 0 {
		linux.Sysctl = nil
	}
	return nil
}

func isNamespaced(name string) bool {
	switch name {
	case "kernel.domainname", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return true
	}
	return strings.HasPrefix(name, "fs.mqueue.")
}

func guestResources(plan *GuestPlan, _ GuestOptions) error {
	if r := plan.Spec.Linux.Resources; r != nil {
		leaveToHost(r)
	}
	return nil
}

// GuestResources translates an update of a container's resources, by the same
// rows of the table as those of its spec. Device rules stay as they were made.
func GuestResources(host *specs.LinuxResources) (*specs.LinuxResources, error) {
	if host == nil {
		return nil, invalid("no resources")
	}
	r := &specs.LinuxResources{}
	at := place{"linux.resources", "linux.resources"}
	if err := carry(at, reflect.ValueOf(host).Elem(), reflect.ValueOf(r).Elem()); err != nil {
		return nil, err
	}
	r.Devices = nil
	leaveToHost(r)
	return r, nil
}

// leaveToHost takes out what only the host's cgroup of the VM can do, and writes
// what the guest's crun does not know as plain cgroup v2 files.
func leaveToHost(r *specs.LinuxResources) {
	r.HugepageLimits = slices.DeleteFunc(r.HugepageLimits, func(l specs.LinuxHugepageLimit) bool { return l.Limit == 0 })
	if len(r.HugepageLimits) == 0 {
		r.HugepageLimits = nil
	}
	delete(r.Unified, "cpuset.cpus")
	delete(r.Unified, "cpuset.mems")
	if r.CPU == nil {
		return
	}
	r.CPU.Cpus, r.CPU.Mems = "", ""
	if r.CPU.Burst != nil {
		if r.Unified == nil {
			r.Unified = map[string]string{}
		}
		r.Unified["cpu.max.burst"] = strconv.FormatUint(*r.CPU.Burst, 10)
		r.CPU.Burst = nil
	}
}

func guestSeccomp(plan *GuestPlan, _ GuestOptions) error {
	s := plan.Spec.Linux.Seccomp
	if s == nil {
		return nil
	}
	const why = "a seccomp listener on the host cannot serve the guest"
	if s.DefaultAction == specs.ActNotify {
		return unsupported(fmt.Sprintf("linux.seccomp.defaultAction %q", s.DefaultAction), why)
	}
	for i, call := range s.Syscalls {
		if call.Action == specs.ActNotify {
			return unsupported(fmt.Sprintf("linux.seccomp.syscalls[%d].action %q", i, call.Action), why)
		}
	}
	return nil
}

// guestHooks parts the hooks: startContainer is run inside the container, by
// crun; all others belong to the host.
func guestHooks(plan *GuestPlan, _ GuestOptions) error {
	all := plan.Spec.Hooks
	if all == nil {
		return nil
	}
	plan.Spec.Hooks = nil
	if len(all.StartContainer) > 0 {
		plan.Spec.Hooks = &specs.Hooks{StartContainer: all.StartContainer}
	}
	host := *all
	host.StartContainer = nil
	//nolint:staticcheck // Prestart is deprecated, but containerd and Docker still send it.
	if len(host.Prestart)+len(host.CreateRuntime)+len(host.CreateContainer)+len(host.Poststart)+len(host.Poststop) > 0 {
		plan.Hooks = &host
	}
	return nil
}

// hostAnnotations are the prefixes of keys that only the host acts upon.
var hostAnnotations = []string{"dev.dougong.", "run.oci.hooks.", "org.systemd.property."}

// crunAnnotations are harmless keys that the guest's crun acts upon.
var crunAnnotations = []string{"run.oci.seccomp_fail_unknown_syscall"}

func guestAnnotations(plan *GuestPlan, _ GuestOptions) error {
	for _, key := range slices.Sorted(maps.Keys(plan.Spec.Annotations)) {
		switch {
		case slices.ContainsFunc(hostAnnotations, func(p string) bool { return strings.HasPrefix(key, p) }):
			delete(plan.Spec.Annotations, key)
		case strings.HasPrefix(key, "run.oci.") && !slices.Contains(crunAnnotations, key):
			return unsupported(fmt.Sprintf("annotations[%q]", key), "it would change what crun does in the guest")
		}
	}
	if len(plan.Spec.Annotations) == 0 {
		plan.Spec.Annotations = nil
	}
	return nil
}
