package shim

import (
	"errors"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	cri "dougong.dev/dougong/api/cri/v1"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/sizing"
)

func TestPodConfig(t *testing.T) {
	value, err := proto.Marshal(&cri.PodSandboxConfig{Hostname: "web"})
	if err != nil {
		t.Fatal(err)
	}
	const name = "runtime.v1.PodSandboxConfig"
	for _, url := range []string{name, "type.googleapis.com/" + name} {
		if c, err := podConfig(&anypb.Any{TypeUrl: url, Value: value}); c.GetHostname() != "web" || err != nil {
			t.Errorf("%s gives %v, %v", url, c, err)
		}
	}
	// Clients other than CRI describe nothing.
	if c, err := podConfig(nil); c.GetHostname() != "" || err != nil {
		t.Errorf("no options give %v, %v", c, err)
	}
	if _, err := podConfig(&anypb.Any{TypeUrl: name, Value: []byte("\xff")}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("noise gives %v", err)
	}
}

func TestPodSpec(t *testing.T) {
	config := &cri.PodSandboxConfig{
		Hostname: "web", Annotations: map[string]string{"dougong.dev/cpus": "2"},
		Linux: &cri.LinuxPodSandboxConfig{
			Sysctls:   map[string]string{"vm.swappiness": "1"},
			Resources: &cri.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 150000, MemoryLimitInBytes: 1 << 30},
		},
	}
	spec := podSpec("p1", "/run/netns/p1", config, nil)
	role, id, err := oci.PodOf("p1", spec.Annotations)
	if role != oci.PodSandbox || id != "p1" || err != nil {
		t.Errorf("the spec is that of %v %q, %v", role, id, err)
	}
	if spec.Hostname != "web" || spec.Annotations["dougong.dev/cpus"] != "2" {
		t.Errorf("spec is %+v", spec)
	}
	want := specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "/run/netns/p1"}
	if !slices.Contains(spec.Linux.Namespaces, want) {
		t.Errorf("namespaces are %v", spec.Linux.Namespaces)
	}
	demand, err := sizing.OfPod(spec.Annotations)
	if diff := cmp.Diff(sizing.Demand{MilliCPUs: 1500, MemoryBytes: 1 << 30}, demand); diff != "" || err != nil {
		t.Errorf("demand: %v %s", err, diff)
	}
	plan, err := oci.Pod(spec)
	if err != nil || plan.Users != nil || plan.Sysctls["vm.swappiness"] != "1" {
		t.Errorf("plan is %+v, %v", plan, err)
	}
}

func TestPodCgroup(t *testing.T) {
	for parent, want := range map[string]string{
		"": "", "/kubepods/pod1": "/kubepods/pod1/p1", "/kubepods.slice/kubepods-pod1.slice": "kubepods-pod1.slice:cri-containerd:p1",
	} {
		if got := podCgroup(parent, "p1"); got != want {
			t.Errorf("below %q it is %q, want %q", parent, got, want)
		}
	}
}

func TestPodSpecNamespaces(t *testing.T) {
	node := cri.NamespaceMode_NAMESPACE_MODE_NODE
	for name, options := range map[string]*cri.NamespaceOption{"network": {Network: node}, "pid": {Pid: node}, "ipc": {Ipc: node}} {
		config := &cri.PodSandboxConfig{Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: options}}}
		if _, err := oci.Pod(podSpec("p1", "", config, nil)); !errdefs.IsNotImplemented(err) {
			t.Errorf("the host's %s namespace gives %v", name, err)
		}
	}
	ids := []*cri.IDMapping{{HostId: 1000, Length: 10}}
	users := &cri.NamespaceOption{UsernsOptions: &cri.UserNamespace{Uids: ids, Gids: ids}}
	config := &cri.PodSandboxConfig{Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: users}}}
	plan, err := oci.Pod(podSpec("p1", "", config, nil))
	if err != nil {
		t.Fatal(err)
	}
	mapping := []specs.LinuxIDMapping{{HostID: 1000, Size: 10}}
	if diff := cmp.Diff(&oci.UserNamespace{UIDs: mapping, GIDs: mapping}, plan.Users); diff != "" {
		t.Error(diff)
	}
}

func TestCheckUsers(t *testing.T) {
	const pod, node = cri.NamespaceMode_NAMESPACE_MODE_POD_UNSPECIFIED, cri.NamespaceMode_NAMESPACE_MODE_NODE
	one := []*cri.IDMapping{{HostId: 1000, Length: 10}}
	for _, users := range []*cri.UserNamespace{nil, {Mode: node}, {Mode: pod, Uids: one, Gids: one}} {
		if err := checkUsers(users); err != nil {
			t.Errorf("%v gives %v", users, err)
		}
	}
	for _, users := range []*cri.UserNamespace{
		{Mode: pod},
		{Mode: pod, Uids: one},
		{Mode: pod, Uids: append(one, one...), Gids: one},
		{Mode: node, Uids: one, Gids: one},
		{Mode: cri.NamespaceMode_NAMESPACE_MODE_CONTAINER, Uids: one, Gids: one},
		{Mode: cri.NamespaceMode_NAMESPACE_MODE_TARGET},
	} {
		if err := checkUsers(users); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v gives %v", users, err)
		}
	}
}

func TestPodFiles(t *testing.T) {
	host := func(path string) ([]byte, error) { return []byte("host's " + path), nil }
	got, err := podFiles(&cri.PodSandboxConfig{}, host)
	want := map[string]string{"/etc/hosts": "host's /etc/hosts", "/etc/resolv.conf": "host's /etc/resolv.conf"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("without a word: %v %s", err, diff)
	}
	config := &cri.PodSandboxConfig{
		Hostname: "web", DnsConfig: &cri.DNSConfig{Servers: []string{"1.1.1.1", "2.2.2.2"}, Searches: []string{"a.b", "b"}, Options: []string{"ndots:5"}},
	}
	got, err = podFiles(config, host)
	want["/etc/hostname"] = "web\n"
	want["/etc/resolv.conf"] = "search a.b b\nnameserver 1.1.1.1\nnameserver 2.2.2.2\noptions ndots:5\n"
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("with all: %v %s", err, diff)
	}
	broken := errors.New("broken")
	if _, err := podFiles(config, func(string) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a file that cannot be read gives %v", err)
	}
}
