package oci

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestPodOf(t *testing.T) {
	const cri, crio, docker = "io.kubernetes.cri.", "io.kubernetes.cri-o.", "io.kubernetes.docker.type"
	tests := map[string]struct {
		annotations map[string]string
		role        Role
		sandbox     string
		wrong       string
	}{
		"none":                 {nil, Single, "", ""},
		"others":               {map[string]string{"a": "b"}, Single, "", ""},
		"containerd's sandbox": {map[string]string{cri + "container-type": "sandbox", cri + "sandbox-id": "c1"}, PodSandbox, "c1", ""},
		"containerd's":         {map[string]string{cri + "container-type": "container", cri + "sandbox-id": "p"}, PodContainer, "p", ""},
		"by the id alone":      {map[string]string{cri + "sandbox-id": "p"}, PodContainer, "p", ""},
		"its own id alone":     {map[string]string{cri + "sandbox-id": "c1"}, Single, "", ""},
		"CRI-O's sandbox":      {map[string]string{crio + "ContainerType": "sandbox"}, PodSandbox, "c1", ""},
		"CRI-O's":              {map[string]string{crio + "ContainerType": "container", crio + "SandboxID": "p"}, PodContainer, "p", ""},
		"cri-dockerd's":        {map[string]string{docker: "podsandbox"}, PodSandbox, "c1", ""},
		"no sandbox":           {map[string]string{cri + "container-type": "container"}, Single, "", cri + "sandbox-id is missing"},
		"unknown kind":         {map[string]string{cri + "container-type": "thing"}, Single, "", `"thing": want "sandbox" or "container"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			role, sandbox, err := PodOf("c1", tt.annotations)
			if tt.wrong != "" {
				if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.wrong) {
					t.Errorf("error is %v", err)
				}
				return
			}
			if role != tt.role || sandbox != tt.sandbox || err != nil {
				t.Errorf("got %v, %q, %v", role, sandbox, err)
			}
		})
	}
}

func podSpec() *specs.Spec {
	spec := &specs.Spec{Linux: &specs.Linux{Sysctl: map[string]string{"kernel/shmmax": "1", "vm.swappiness": "3"}}}
	for _, ns := range hostNamespaces {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: ns})
	}
	return spec
}

func TestPod(t *testing.T) {
	plan, err := Pod(podSpec())
	if err != nil {
		t.Fatal(err)
	}
	want := &PodPlan{Sysctls: map[string]string{"kernel.shmmax": "1", "vm.swappiness": "3"}}
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Error(diff)
	}
	mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}}
	spec := podSpec()
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = mapping, mapping
	spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/a"}}, StartContainer: []specs.Hook{{Path: "/b"}}}
	if plan, err = Pod(spec); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&UserNamespace{UIDs: mapping, GIDs: mapping}, plan.Users); diff != "" {
		t.Error(diff)
	}
	if got := plan.Sysctls[pingGroups]; got != "0 2147483647" {
		t.Errorf("groups that may ping are %q", got)
	}
	spec.Linux.Sysctl[pingGroups] = "1 0"
	if plan, err := Pod(spec); err != nil || plan.Sysctls[pingGroups] != "1 0" {
		t.Errorf("what the pod asks for becomes %+v, %v", plan, err)
	}
	spec.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 1, HostID: 1000, Size: 10}}
	if _, err := Pod(spec); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "no root") {
		t.Errorf("a namespace without root gives %v", err)
	}
	if len(plan.Hooks.Poststop) != 1 || len(plan.Hooks.StartContainer) != 0 {
		t.Errorf("hooks are %+v", plan.Hooks)
	}
}

// Namespaces of the host are none that a VM could share.
func TestPodRefusesNamespacesOfTheHost(t *testing.T) {
	for i, ns := range hostNamespaces {
		spec := podSpec()
		spec.Linux.Namespaces = append(spec.Linux.Namespaces[:i:i], spec.Linux.Namespaces[i+1:]...)
		if _, err := Pod(spec); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), string(ns)) {
			t.Errorf("without %s: %v", ns, err)
		}
	}
	if _, err := Pod(&specs.Spec{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("without a linux section: %v", err)
	}
}

func TestGuestNamespacesOfAPod(t *testing.T) {
	host := baseSpec()
	host.Hostname = "pod"
	for i := range host.Linux.Namespaces {
		if ns := &host.Linux.Namespaces[i]; ns.Type != specs.MountNamespace && ns.Type != specs.CgroupNamespace {
			ns.Path = "/proc/7/ns/" + string(ns.Type)
		}
	}
	plan, err := Guest(host, GuestOptions{ID: "c1", PodSysctls: map[string]string{}, Namespaces: map[string]string{
		"/proc/7/ns/pid": "/proc/9/ns/pid", "/proc/7/ns/ipc": OfVM, "/proc/7/ns/uts": OfVM,
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []specs.LinuxNamespace{{Type: specs.PIDNamespace, Path: "/proc/9/ns/pid"}, {Type: specs.MountNamespace}, {Type: specs.CgroupNamespace}}
	if diff := cmp.Diff(want, plan.Spec.Linux.Namespaces, cmp.Transformer("sort", byType)); diff != "" {
		t.Error(diff)
	}
	if plan.Spec.Hostname != "" {
		t.Errorf("host name %q is set in a namespace of the VM", plan.Spec.Hostname)
	}
}

func byType(in []specs.LinuxNamespace) map[string]string {
	out := map[string]string{}
	for _, ns := range in {
		out[string(ns.Type)] = ns.Path
	}
	return out
}

func TestGuestSysctlsOfAPod(t *testing.T) {
	host := baseSpec()
	host.Linux.Sysctl = map[string]string{"net/ipv4/ip_forward": "1"}
	options := GuestOptions{ID: "c1", PodSysctls: map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "5"}}
	plan, err := Guest(host, options)
	if err != nil || plan.Sysctls != nil || plan.Spec.Linux.Sysctl != nil {
		t.Errorf("sysctls of the pod give %+v, %v", plan, err)
	}
	host.Linux.Sysctl["kernel.shmmax"] = "6"
	if _, err := Guest(host, options); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "kernel.shmmax") {
		t.Errorf("other sysctls than the pod's give %v", err)
	}
}
