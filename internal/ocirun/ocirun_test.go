package ocirun

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/record"
)

func TestReadBundle(t *testing.T) {
	tests := map[string]struct{ config, want string }{
		"none":       {"", "no such file"},
		"no JSON":    {"{", "config.json"},
		"no process": {`{"root":{"path":"rootfs"}}`, "no process"},
		"no root":    {`{"process":{}}`, "no root.path"},
		"lost root":  {`{"process":{},"root":{"path":"nowhere"}}`, "nowhere"},
		"root":       {`{"process":{},"root":{"path":"rootfs"}}`, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o700); err != nil {
				t.Fatal(err)
			}
			if tt.config != "" {
				if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(tt.config), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			t.Chdir(dir)
			bundle, _, err := readBundle(".")
			if tt.want == "" && (err != nil || bundle != dir) {
				t.Errorf("got %q, %v", bundle, err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCheckTerminal(t *testing.T) {
	for _, tt := range []struct {
		terminal bool
		socket   string
		ok       bool
	}{{false, "", true}, {true, "/s", true}, {true, "", false}, {false, "/s", false}} {
		if err := checkTerminal(tt.terminal, tt.socket); (err == nil) != tt.ok || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v with %q: %v", tt.terminal, tt.socket, err)
		}
	}
}

func TestProcessOf(t *testing.T) {
	container := &specs.Process{
		Args: []string{"init"}, Env: []string{"A=1", "B=2"}, Cwd: "/c", User: specs.User{UID: 7, AdditionalGids: []uint32{3}},
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}, Effective: []string{"CAP_KILL"}},
	}
	got, err := processOf(container, ProcessOptions{
		Args: []string{"sh"}, Cwd: "/d", User: "5:6", Env: []string{"A=9"}, Caps: []string{"net_raw", "CAP_KILL"}, Groups: []uint{4}, Terminal: true, NoNewPrivileges: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &specs.Process{
		Args: []string{"sh"}, Env: []string{"A=9", "B=2"}, Cwd: "/d", User: specs.User{Username: "5:6", AdditionalGids: []uint32{3, 4}}, Terminal: true, NoNewPrivileges: true,
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL", "CAP_NET_RAW"}, Effective: []string{"CAP_KILL", "CAP_NET_RAW"}, Permitted: []string{"CAP_NET_RAW", "CAP_KILL"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(container.Capabilities.Bounding) != 1 || container.Cwd != "/c" {
		t.Errorf("the container's own process was changed: %+v", container)
	}
	if _, err := processOf(container, ProcessOptions{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no command gives %v", err)
	}
}

func TestStatusOf(t *testing.T) {
	root, err := record.NewRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, lock, err := root.Create(record.Record{ID: "c1", Name: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]*engine.Status{
		Stopped: {Dir: dir, State: "exited"}, Running: {Dir: dir, State: "running", PID: 5}, Paused: {Dir: dir, State: "paused", PID: 5},
		Created: {Dir: dir, State: "created", PID: 5}, Creating: {Dir: dir, State: "created"},
	} {
		if got := statusOf(s); got != want {
			t.Errorf("%+v is %s, want %s", s, got, want)
		}
	}
	lock.Close()
	if got := statusOf(&engine.Status{Dir: dir, State: "created"}); got != Stopped {
		t.Errorf("one without a process is %s", got)
	}
}

func TestGivenLeavesOutWhatAsksForNothing(t *testing.T) {
	zero, one, none, share, weight := int64(0), int64(1), uint64(0), uint64(2), uint16(0)
	r := &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: &one, Kernel: &zero, Swap: &zero, Reservation: &zero, Swappiness: &none}, //nolint:staticcheck // Docker sends it.
		CPU:     &specs.LinuxCPU{Shares: &share, Period: &none, Quota: &zero, Cpus: "0"},
		Pids:    &specs.LinuxPids{Limit: &zero},
		BlockIO: &specs.LinuxBlockIO{Weight: &weight},
	}
	want := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &one}, CPU: &specs.LinuxCPU{Shares: &share, Cpus: "0"}, BlockIO: &specs.LinuxBlockIO{},
	}
	if diff := cmp.Diff(want, given(r)); diff != "" {
		t.Error(diff)
	}
	if r.Pids == nil || r.Memory.Swap == nil {
		t.Error("the caller's resources were changed")
	}
}

func TestDenied(t *testing.T) {
	for text, want := range map[string]string{"is a directory": "is a directory: permission denied", "permission denied": "permission denied"} {
		err := denied(refused{text})
		if err.Error() != want || !errdefs.IsPermissionDenied(err) {
			t.Errorf("%q became %q", text, err)
		}
	}
	if err := denied(errdefs.ErrNotFound); !errdefs.IsNotFound(err) || errdefs.IsPermissionDenied(err) {
		t.Errorf("another error became %v", err)
	}
}

// refused is an error of its class that does not say so.
type refused struct{ text string }

func (r refused) Error() string { return r.text }
func (refused) Unwrap() error   { return errdefs.ErrPermissionDenied }

func TestWritePID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if err := writePID(path, 42); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); string(data) != "42" || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
	if err := writePID("", 42); err != nil {
		t.Error(err)
	}
	if err := writePID("/nowhere/pid", 42); err == nil {
		t.Error("no error")
	}
}

func TestUsageOf(t *testing.T) {
	u := usageOf(&stats.Metrics{
		CPU:    &stats.CPUStat{UsageUsec: 3, UserUsec: 1, SystemUsec: 2, NrPeriods: 4, ThrottledUsec: 5},
		Memory: &stats.MemoryStat{Usage: 6, UsageLimit: 7, File: 8}, Pids: &stats.PidsStat{Current: 9},
		Io: &stats.IOStat{Usage: []*stats.IOEntry{{Major: 1, Minor: 2, Rbytes: 3, Wios: 4}}},
	})
	if u.CPU.Usage.Total != 3000 || u.CPU.Throttling.ThrottledTime != 5000 || u.Memory.Usage.Limit != 7 || u.Memory.Cache != 8 || u.Pids.Current != 9 {
		t.Errorf("got %+v", u)
	}
	if len(u.Blkio.Bytes) != 2 || u.Blkio.Bytes[0].Value != 3 || u.Blkio.Operations[1].Value != 4 {
		t.Errorf("got %+v", u.Blkio)
	}
	if empty := usageOf(&stats.Metrics{}); empty.CPU.Usage.Total != 0 {
		t.Errorf("nothing is %+v", empty)
	}
}
