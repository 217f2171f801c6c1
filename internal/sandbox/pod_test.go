package sandbox

import (
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/vmm"
)

func TestProcPID(t *testing.T) {
	for path, want := range map[string]int{
		"/proc/12/ns/pid": 12, "/proc/self/ns/pid": 0, "/var/run/netns/7": 0, "/proc/-/ns": 0, "": 0,
	} {
		if got := procPID(path); got != want {
			t.Errorf("procPID(%q) = %d, want %d", path, got, want)
		}
	}
}

func TestTmpfsSize(t *testing.T) {
	if size, ok := tmpfsSize("/dev/shm"); !ok || size == 0 {
		t.Errorf("/dev/shm has %d bytes, %v", size, ok)
	}
	if _, ok := tmpfsSize("/proc"); ok {
		t.Error("/proc counts as a file system of memory")
	}
	if _, ok := tmpfsSize("/none"); ok {
		t.Error("what is not there counts as a file system of memory")
	}
}

func TestContainersJoinOnlyPodsThatRun(t *testing.T) {
	s, err := New(Options{ID: "pod", Dir: t.TempDir(), Machine: vmm.MachineSpec{CPUs: 1, MemoryMiB: 512}})
	if err != nil {
		t.Fatal(err)
	}
	bundle := t.TempDir()
	if err := os.WriteFile(bundle+"/config.json", []byte(`{"ociVersion":"1.0.2","linux":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := false
	spec := ContainerSpec{ID: "c1", Role: oci.PodContainer, Bundle: bundle, Stdio: Stdio{EndInput: func() { closed = true }}}
	if _, err := s.CreateContainer(t.Context(), spec); !errdefs.IsFailedPrecondition(err) || !closed {
		t.Errorf("before the pod's start: %v, stdio closed: %v", err, closed)
	}
	s.life.to(Running)
	if _, err := s.CreateContainer(t.Context(), spec); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "not that of a pod") {
		t.Errorf("in a container's own sandbox: %v", err)
	}
	if n := s.Containers(); n != 0 {
		t.Errorf("%d containers are left", n)
	}
}

// An entry that cannot be shared takes those before it along.
func TestAttachUnwinds(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	tree, err := storage.NewTree(t.TempDir() + "/shared")
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	s := &Sandbox{life: lifecycle{what: "sandbox", state: Running}, tree: tree}
	bind := func(name, source string) storage.Entry {
		return storage.Entry{Name: name, Mount: storage.Mount{Type: "bind", Source: source}}
	}
	dir := t.TempDir()
	with := func(entries ...storage.Entry) *Container {
		return &Container{sandbox: s, plan: &storage.Plan{Entries: entries}}
	}
	if _, err := s.attach(t.Context(), with(bind("c1/a", dir), bind("c1/b", dir+"/none")), nil); err == nil {
		t.Error("a source that is not there is no error")
	}
	attached, err := s.attach(t.Context(), with(bind("c1/a", dir), bind("c1/b", dir)), nil)
	if err != nil {
		t.Fatal(err)
	}
	attached.unwind()
	if left, err := os.ReadDir(tree.Dir()); len(left) != 0 || err != nil {
		t.Errorf("left in the share: %v, %v", left, err)
	}
}
