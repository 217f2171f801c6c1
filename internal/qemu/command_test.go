package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/vmm"
)

func userNIC(port uint16) []vmm.NIC {
	return []vmm.NIC{{ID: "net0", MAC: "02:00:00:00:00:01", User: &vmm.UserNetwork{
		Forwards: []vmm.Forward{{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: port, GuestPort: 80}},
	}}}
}

func TestProcessAttributes(t *testing.T) {
	unprivileged := Config{UID: 7, GID: 8}
	for _, tc := range []struct {
		name   string
		config Config
		nics   []vmm.NIC
		root   bool
		netns  bool
		caps   []uintptr
	}{
		{"root, no network", unprivileged, nil, true, true, nil},
		{"root, tap", unprivileged, []vmm.NIC{{ID: "net0", Tap: queues(1)}}, true, true, nil},
		{"root, user network", unprivileged, userNIC(8080), true, false, nil},
		{"low port", unprivileged, userNIC(80), true, false, []uintptr{unix.CAP_NET_BIND_SERVICE}},
		{"low port as the own user", Config{}, userNIC(80), true, false, nil},
		{"not root", Config{}, nil, false, false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			attr := processAttributes(tc.config, vmm.MachineSpec{NICs: tc.nics}, tc.root, nil)
			if !attr.Setsid {
				t.Error("no session of its own")
			}
			if got := attr.Unshareflags&syscall.CLONE_NEWNS != 0; got != tc.root {
				t.Errorf("own mounts: %v", got)
			}
			if got := attr.Unshareflags&syscall.CLONE_NEWNET != 0; got != tc.netns {
				t.Errorf("own network: %v", got)
			}
			if !slices.Equal(attr.AmbientCaps, tc.caps) {
				t.Errorf("capabilities = %v", attr.AmbientCaps)
			}
			if (attr.Credential != nil) != (tc.config.UID != 0) {
				t.Errorf("credential = %v", attr.Credential)
			}
		})
	}
}

// What the process really is, in the kernel's words.
func TestPrivileges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	t.Setenv("DOUGONG_SECRET", "x")
	m := start(t, unprivileged(), tinyMachine(t, "", hang))
	status := readStatus(t, m.PID())
	for key, want := range map[string]string{
		"Uid": "65534 65534 65534 65534", "Gid": "65534 65534 65534 65534", "Groups": "",
		"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapAmb": "0000000000000000",
		"NoNewPrivs": "1", "Seccomp": "2",
	} {
		if status[key] != want {
			t.Errorf("%s = %q, want %q", key, status[key], want)
		}
	}
	for _, ns := range []string{"mnt", "ipc", "net"} {
		if namespace(t, m.PID(), ns) == namespace(t, os.Getpid(), ns) {
			t.Errorf("shares the %s namespace", ns)
		}
	}
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", m.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(childEnv, "\x00") + "\x00"; string(environment) != got {
		t.Errorf("environment = %q", environment)
	}
	if sid, err := unix.Getsid(m.PID()); err != nil || sid != m.PID() {
		t.Errorf("session %d, %v", sid, err)
	}
}

// An unprivileged QEMU must be able to take a low port, and keep nothing else.
func TestLowPort(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	port := uint16(0)
	for p := uint16(1023); p > 600 && port == 0; p-- {
		if tryBind(vmm.Forward{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: p}) == nil {
			port = p
		}
	}
	if port == 0 {
		t.Skip("no low port is free")
	}
	spec := tinyMachine(t, "", hang)
	spec.NICs = userNIC(port)
	m := start(t, unprivileged(), spec)
	if got, want := readStatus(t, m.PID())["CapEff"], fmt.Sprintf("%016x", 1<<unix.CAP_NET_BIND_SERVICE); got != want {
		t.Errorf("CapEff = %s, want %s", got, want)
	}
	if namespace(t, m.PID(), "net") != namespace(t, os.Getpid(), "net") {
		t.Error("the forward's port is in another network namespace")
	}
}

func readStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	status := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		status[key] = strings.Join(strings.Fields(value), " ")
	}
	return status
}

func namespace(t *testing.T, pid int, name string) string {
	t.Helper()
	link, err := os.Readlink(filepath.Join("/proc", fmt.Sprint(pid), "ns", name))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func TestCheckDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(path string, flags int) *os.File {
		f, err := os.OpenFile(path, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	for _, tc := range []struct {
		name string
		disk vmm.Disk
		want string
	}{
		{"read-only", vmm.Disk{File: open(path, os.O_RDONLY), ReadOnly: true}, ""},
		{"writable", vmm.Disk{File: open(path, os.O_RDWR)}, ""},
		{"writable file for a read-only disk", vmm.Disk{File: open(path, os.O_RDWR), ReadOnly: true}, "reading only"},
		{"read-only file for a writable disk", vmm.Disk{File: open(path, os.O_RDONLY)}, "reading and writing"},
		{"directory", vmm.Disk{File: open(dir, os.O_RDONLY), ReadOnly: true}, "neither a regular file"},
		{"character device", vmm.Disk{File: open("/dev/null", os.O_RDWR)}, "neither a regular file"},
		{"nothing", vmm.Disk{}, "no file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := checkDisk(tc.disk)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("err = %v, want …%s…", err, tc.want)
			}
		})
	}
}

// TestFreezeOfOthers refuses a machine whose files' numbers are not known.
func TestFreezeOfOthers(t *testing.T) {
	m := &Machine{spec: vmm.MachineSpec{Name: "claimed"}}
	if err := m.Freeze(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), `machine "claimed": it was not started by this process`) {
		t.Errorf("it ends with %v", err)
	}
}
