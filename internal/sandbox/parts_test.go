package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/oci"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/vmm"
)

func TestOptionsValidation(t *testing.T) {
	tests := map[string]struct {
		machine vmm.MachineSpec
		want    string
	}{
		"least":         {vmm.MachineSpec{CPUs: 1, MemoryMiB: MinMemoryMiB}, ""},
		"little memory": {vmm.MachineSpec{CPUs: 1, MemoryMiB: MinMemoryMiB - 1}, "at least 128 MiB"},
		"no CPU":        {vmm.MachineSpec{CPUs: 0, MemoryMiB: 512}, "0 CPUs: want at least 1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := New(Options{ID: "c1", Machine: tt.machine})
			if tt.want == "" {
				if err != nil || s.PID() != 0 || s.Err() != nil {
					t.Errorf("New gives %v, %v", s, err)
				}
				return
			}
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "c1") {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}

func TestWithConsole(t *testing.T) {
	cause := errors.New("the guest did not answer")
	for _, silent := range []string{"", "\n", "  \n\n"} {
		if err := withConsole(cause, silent); !errors.Is(err, cause) {
			t.Errorf("a console with %q gives %q", silent, err)
		}
	}
	var long strings.Builder
	for i := range 50 {
		fmt.Fprintf(&long, "line %d\n", i)
	}
	err := withConsole(cause, long.String())
	if !errors.Is(err, cause) {
		t.Errorf("the cause is lost in %v", err)
	}
	first := fmt.Sprintf("line %d\n", 50-consoleLines)
	if !strings.Contains(err.Error(), first) || strings.Contains(err.Error(), fmt.Sprintf("line %d\n", 50-consoleLines-1)) || !strings.HasSuffix(err.Error(), "line 49") {
		t.Errorf("error is %q, want the last %d lines", err, consoleLines)
	}
}

func TestOpenDisks(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "disk")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	disks, err := openDisks([]storage.Disk{{Serial: "a", Path: file, ReadOnly: true}, {Serial: "b", Path: file}})
	if err != nil {
		t.Fatal(err)
	}
	if len(disks) != 2 || disks[0].Serial != "a" || !disks[0].ReadOnly || disks[1].ReadOnly {
		t.Errorf("disks are %+v", disks)
	}
	// The descriptor itself must not be able to do what the guest may not.
	if _, err := disks[0].File.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("writing to a read-only disk gives %v, want %v", err, unix.EBADF)
	}
	if _, err := disks[1].File.WriteAt([]byte("x"), 0); err != nil {
		t.Error(err)
	}
	closeDisks(disks)
	if err := disks[0].File.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a disk stays open: %v", err)
	}
}

func TestOpenDisksClosesWhatItOpened(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openDisks([]storage.Disk{{Path: file}, {Path: "/none/disk"}})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/none/disk") {
		t.Errorf("error is %v", err)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && target == file {
			t.Errorf("%s stays open as descriptor %s", file, e.Name())
		}
	}
}

func TestReadSpec(t *testing.T) {
	dir := t.TempDir()
	if _, err := readSpec(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a bundle without config.json gives %v", err)
	}
	for content, ok := range map[string]bool{`{"ociVersion":"1.0.2","hostname":"h"}`: true, `{"hostname":7}`: false, `{`: false} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		spec, err := readSpec(dir)
		if ok != (err == nil) || ok && spec.Hostname != "h" {
			t.Errorf("%s gives %v, %v", content, spec, err)
		}
	}
}

func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	if files, err := readFiles(filepath.Join(dir, "none")); files != nil || err != nil {
		t.Errorf("a bundle without files gives %v, %v", files, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte("127.0.0.1 localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := readFiles(dir)
	if err != nil || len(files) != 1 || files[0].GetName() != "hosts" || string(files[0].GetContent()) != "127.0.0.1 localhost\n" {
		t.Errorf("files are %v, %v", files, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := readFiles(dir); err == nil {
		t.Error("a directory among the files is no error")
	}
}

func TestHooksAreKeptForTheHost(t *testing.T) {
	spec := &specs.Spec{
		Version: "1.0.2", Root: &specs.Root{Path: "rootfs"}, Process: &specs.Process{Args: []string{"true"}, Cwd: "/"},
		Linux: &specs.Linux{},
		Hooks: &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/true"}}},
	}
	spec.Linux = &specs.Linux{}
	for _, ns := range []specs.LinuxNamespaceType{"pid", "ipc", "uts", "mount", "network"} {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: ns})
	}
	spec.Mounts = []specs.Mount{{Destination: "/a", Type: "bind", Source: "beside"}, {Destination: "/b", Type: "bind", Source: "/abs"}}
	plan, binds, err := guestPlan(oci.GuestOptions{ID: "c1"}, "/bundle", spec)
	if len(binds) != 2 || binds[0].bind.Source != "/bundle/beside" || binds[1].bind.Source != "/abs" {
		t.Errorf("binds are %+v", binds)
	}
	if err != nil || plan.Hooks == nil || len(plan.Hooks.Poststop) != 1 || plan.Spec.Hooks != nil {
		t.Errorf("hooks give %v, %v: they are never skipped in silence", plan, err)
	}
}

func TestGuestProcess(t *testing.T) {
	const url = "types.containerd.io/opencontainers/runtime-spec/1/Process"
	got, err := guestProcess(&anypb.Any{TypeUrl: url, Value: []byte(`{"args":["true"],"cwd":"/","env":["A=1"]}`)})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetTypeUrl() != url || !strings.Contains(string(got.GetValue()), `"A=1"`) {
		t.Errorf("process is %s %s", got.GetTypeUrl(), got.GetValue())
	}
	for _, bad := range []*anypb.Any{nil, {}, {Value: []byte("{")}, {Value: []byte(`{"args":7}`)}} {
		if _, err := guestProcess(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v gives %v, want an invalid argument", bad, err)
		}
	}
}

func TestMissingFile(t *testing.T) {
	spec := &specs.Spec{Mounts: []specs.Mount{
		{Destination: "/etc/hosts", Source: oci.GuestFile("c", "hosts")}, {Destination: "/proc", Source: "proc"},
	}}
	if _, err := bundleRequest("c", nil, spec, []*agentapi.File{{Name: "hosts"}}); err != nil {
		t.Error(err)
	}
	_, err := bundleRequest("c", nil, spec, []*agentapi.File{{Name: "other"}})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "/etc/hosts") {
		t.Errorf("got %v", err)
	}
}

// TestTemplateCmdline holds what machines must have in common to be clones of
// one template.
func TestTemplateCmdline(t *testing.T) {
	line := func(i *agentapi.Interface) string {
		t.Helper()
		o := Options{Interfaces: []*agentapi.Interface{i}}
		line, err := o.templateCmdline(vmm.MachineSpec{Cmdline: "quiet"})
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	one := &agentapi.Interface{Name: "eth0", AssignMac: "02:00:00:00:00:01"}
	if got := line(one); got != line(&agentapi.Interface{Name: "eth0", AssignMac: "02:00:00:00:00:02"}) {
		t.Errorf("a clone's own address counts: %s", got)
	}
	if got := line(one); got == line(&agentapi.Interface{Name: "eth0", Addresses: []string{"10.0.2.15/24"}}) {
		t.Errorf("another network does not count: %s", got)
	}
	if one.AssignMac == "" {
		t.Error("the caller's interface was changed")
	}
}

// The guest's clock must not make a process end before it has begun.
func TestTimesOfTheGuestAreCorrected(t *testing.T) {
	start := time.Now()
	now := start.Add(time.Minute)
	for at, want := range map[time.Time]time.Time{
		start.Add(-time.Second): now, start.Add(time.Second): start.Add(time.Second), now.Add(time.Second): now,
	} {
		if got := within(at, start, now); !got.Equal(want) {
			t.Errorf("%v becomes %v, want %v", at, got, want)
		}
	}
}
