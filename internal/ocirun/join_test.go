package ocirun

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/record"
)

// fleet is a state directory with containers, each with a process in a network
// namespace of its own that stands for it.
type fleet struct {
	*testing.T
	runtime *Runtime
	pids    map[string]int
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may make a network namespace")
	}
	root, err := record.NewRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &fleet{T: t, runtime: &Runtime{Engine: &engine.Engine{Root: root}}, pids: map[string]int{}}
}

// process is one in a network namespace of its own.
func (f *fleet) process() int {
	f.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return cmd.Process.Pid
}

// add adds a container that runs in the sandbox of another one, or its own.
func (f *fleet) add(id, sandbox string) *record.Lock {
	f.Helper()
	dir, lock, err := f.runtime.Engine.Root.Create(record.Record{ID: id, Name: id, Sandbox: sandbox})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = lock.Close() })
	f.pids[id] = f.process()
	if err := dir.WriteProcess(f.pids[id]); err != nil {
		f.Fatal(err)
	}
	return lock
}

// specOf has namespaces as TYPE or TYPE=CONTAINER, with a number for a process that
// is nobody's.
func (f *fleet) specOf(namespaces ...string) *specs.Spec {
	files := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net"}
	spec := &specs.Spec{Linux: &specs.Linux{}}
	for _, ns := range namespaces {
		kind, of, joins := strings.Cut(ns, "=")
		one := specs.LinuxNamespace{Type: specs.LinuxNamespaceType(kind)}
		if joins {
			pid, known := f.pids[of]
			if !known {
				pid = f.process()
			}
			file := files[one.Type]
			if file == "" {
				file = kind
			}
			one.Path = fmt.Sprintf("/proc/%d/ns/%s", pid, file)
		}
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, one)
	}
	return spec
}

func TestHost(t *testing.T) {
	f := newFleet(t)
	f.add("one", "")
	f.add("two", "")
	f.add("member", "one")
	_ = f.add("dead", "").Close()
	pod := func(spec *specs.Spec, id, by string) *specs.Spec {
		spec.Annotations = map[string]string{"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": id, manager: by}
		return spec
	}
	for name, tt := range map[string]struct {
		spec       *specs.Spec
		want, errs string
	}{
		"all its own":                  {f.specOf("network", "pid", "ipc"), "", ""},
		"a network of nobody":          {f.specOf("network=nobody", "pid"), "", ""},
		"a network":                    {f.specOf("network=one", "pid"), "one", ""},
		"network and processes":        {f.specOf("network=two", "pid=two", "ipc=two"), "two", ""},
		"the network of a member":      {f.specOf("network=member"), "one", ""},
		"processes alone":              {f.specOf("network", "pid=one"), "one", ""},
		"one that has ended":           {f.specOf("network=dead"), "", ""},
		"another network":              {f.specOf("network=nobody", "pid=one"), "", "a virtual machine has one network"},
		"two machines":                 {f.specOf("network=one", "pid=two"), "", "two virtual machines"},
		"a pod":                        {pod(f.specOf("network"), "one", "cri-o"), "one", ""},
		"a pod that has ended":         {pod(f.specOf("network"), "dead", "cri-o"), "", "its sandbox dead does not run"},
		"a pod that is not there":      {pod(f.specOf("network"), "none", ""), "", "its sandbox none does not run"},
		"one of Podman's":              {pod(f.specOf("network=one"), "one", libpod), "one", ""},
		"one of Podman's with no pods": {pod(f.specOf("network"), "none", libpod), "", ""},
		"no namespaces at all":         {&specs.Spec{}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := f.runtime.host("new", tt.spec)
			got := ""
			if dir != nil {
				got = dir.ID
			}
			if got != tt.want || (err == nil) != (tt.errs == "") || err != nil && !strings.Contains(err.Error(), tt.errs) {
				t.Errorf("it is %q, %v, want %q and %q", got, err, tt.want, tt.errs)
			}
		})
	}
	if _, err := f.runtime.host("new", &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: "ipc", Path: "/no/such/file"}}}}); err == nil {
		t.Error("a path that is not there is no error")
	}
}

func TestProcPID(t *testing.T) {
	for path, want := range map[string]int{"/proc/12/ns/net": 12, "/proc//12/ns/net": 12, "/proc/self/ns/net": 0, "/run/netns/12": 0, "": 0} {
		if got := procPID(path); got != want {
			t.Errorf("%q is %d, want %d", path, got, want)
		}
	}
}
