package standin

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// namespace is which one a process is in.
func namespace(t *testing.T, pid int, kind string) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// apart wants a process to share none of these namespaces with us, and all others.
func apart(t *testing.T, pid int, kinds ...string) {
	t.Helper()
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		if own := namespace(t, pid, kind) != namespace(t, os.Getpid(), kind); own != slices.Contains(kinds, kind) {
			t.Errorf("it has a %s namespace of its own: %v", kind, own)
		}
	}
}

// hostname is what those see who join a process's namespaces.
func hostname(t *testing.T, pid int) string {
	t.Helper()
	out, err := exec.Command("nsenter", "--uts", "--target", fmt.Sprint(pid), "hostname").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestLeftWithUsers looks at one in a user namespace, with a network of its own
// and with that of another process.
func TestLeftWithUsers(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	// Its users have to get there.
	for _, dir := range []string{root, filepath.Dir(root)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 70000, Size: 1000}}
	other := leave(t, Spec{Net: NewNet}, nil)
	theirs := fmt.Sprintf("/proc/%d/ns/net", other.PID())
	for _, net := range []string{NewNet, theirs} {
		s := Spec{Args: []string{"sleep"}, Root: root, Apart: true, ReadOnly: true, Net: net, UID: 70033, GID: 70044, Hostname: "box", Users: &Users{UIDs: ids, GIDs: ids}}
		l, err := s.Leave("/proc/self/exe", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Kill)
		apart(t, l.PID(), "cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
		if joined := namespace(t, l.PID(), "net") == namespace(t, other.PID(), "net"); joined != (net == theirs) {
			t.Errorf("with %s it is in the other's network: %v", net, joined)
		}
		if status := of(t, l.PID(), "status"); !strings.Contains(status, "Uid:\t70033\t70033") || !strings.Contains(status, "Gid:\t70044\t70044") {
			t.Errorf("its user is another:\n%s", status)
		}
		if got := of(t, l.PID(), "root/proc/1/comm"); got != Name+"\n" {
			t.Errorf("its first process is %q", got)
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/root/new", l.PID()), nil, 0o600); err == nil {
			t.Error("its root directory can be written to")
		}
		if got := hostname(t, l.PID()); got != "box" {
			t.Errorf("its host name is %q", got)
		}
		if got := namespace(t, os.Getpid(), "net"); got == namespace(t, other.PID(), "net") {
			t.Error("this process has been left in the other's network")
		}
	}
}

// TestLeftWithUsersThatGetNowhere has a root directory below one that is for the
// host's root alone.
func TestLeftWithUsersThatGetNowhere(t *testing.T) {
	needRoot(t)
	root := filepath.Join(t.TempDir(), "closed", "root")
	if err := os.MkdirAll(root, 0o700); err != nil {
		t.Fatal(err)
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 70000, Size: 1000}}
	l, err := Spec{Args: []string{"sleep"}, Root: root, Apart: true, Net: NewNet, UID: 70033, GID: 70044, Users: &Users{UIDs: ids, GIDs: ids}}.Leave("/proc/self/exe", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Kill)
	apart(t, l.PID(), "cgroup", "ipc", "mnt", "net", "pid", "uts")
	if status := of(t, l.PID(), "status"); !strings.Contains(status, "Uid:\t70033\t70033") {
		t.Errorf("its user is another:\n%s", status)
	}
}

func TestUsersOf(t *testing.T) {
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}}
	for name, tt := range map[string]struct {
		linux *specs.Linux
		want  bool
	}{
		"none":      {nil, false},
		"no kind":   {&specs.Linux{UIDMappings: maps, GIDMappings: maps}, false},
		"own":       {&specs.Linux{UIDMappings: maps, GIDMappings: maps, Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace}}}, true},
		"another's": {&specs.Linux{UIDMappings: maps, GIDMappings: maps, Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace, Path: "/proc/1/ns/user"}}}, false},
		"no root":   {&specs.Linux{UIDMappings: maps, Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace}}}, false},
	} {
		u := UsersOf(&specs.Spec{Linux: tt.linux})
		if (u != nil) != tt.want {
			t.Errorf("%s: users %+v", name, u)
		}
		if u != nil && (inside(1003, u.UIDs) != 3 || inside(2000, u.GIDs) != 2000) {
			t.Errorf("%s: ids are %d and %d", name, inside(1003, u.UIDs), inside(2000, u.GIDs))
		}
	}
}
