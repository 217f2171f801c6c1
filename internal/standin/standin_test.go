package standin

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func init() {
	if Is() {
		runtime.LockOSThread()
	}
}

// TestMain lets the test binary be a stand-in, as the product's is.
func TestMain(m *testing.M) {
	if Is() {
		status, err := Main()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		os.Exit(status)
	}
	os.Exit(m.Run())
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may start a stand-in")
	}
}

// of reads a file of a process.
func of(t *testing.T, pid int, name string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func TestStandInLooksLikeItsProcess(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "mark"), []byte("container"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Spec{Args: []string{"sleep", "1 d"}, Root: root, Net: NewNet, UID: 1234, GID: 2345}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	if got := of(t, s.PID(), "root/mark"); got != "container" {
		t.Errorf("its root has %q", got)
	}
	if got := of(t, s.PID(), "cmdline"); got != "sleep\x001 d\x00" {
		t.Errorf("its arguments are %q", got)
	}
	if got := of(t, s.PID(), "comm"); got != Name+"\n" {
		t.Errorf("its name is %q", got)
	}
	if status := of(t, s.PID(), "status"); !strings.Contains(status, "Uid:\t1234\t1234") || !strings.Contains(status, "Gid:\t2345\t2345") {
		t.Errorf("its user is another:\n%s", status)
	}
	other, err := Spec{Root: root, Net: fmt.Sprintf("/proc/%d/ns/net", s.PID())}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Kill()
	nets := map[int]string{}
	for _, pid := range []int{os.Getpid(), s.PID(), other.PID()} {
		nets[pid], _ = os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	}
	if nets[s.PID()] == nets[os.Getpid()] || nets[s.PID()] != nets[other.PID()] {
		t.Errorf("network namespaces are %v", nets)
	}
}

func TestStandInWhoseIDIsTaken(t *testing.T) {
	needRoot(t)
	s, err := Spec{PID: os.Getpid(), Root: t.TempDir()}.Start()
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if _, err := (Spec{PID: os.Getpid(), Root: t.TempDir(), Life: time.Minute}).Start(); err == nil {
		t.Error("one that is only to be shown has another id")
	}
}

func TestStandInThatEndsByItself(t *testing.T) {
	needRoot(t)
	s, err := Spec{Root: t.TempDir(), Life: time.Millisecond}.Start()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
}

func TestStandInThatCannotStart(t *testing.T) {
	for name, s := range map[string]Spec{"root": {Root: "/no/such/root"}, "net": {Root: "/", Net: "/no/such/net"}} {
		if one, err := s.Start(); err == nil {
			one.Kill()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestShortenBoundsArguments(t *testing.T) {
	if got := shorten(nil); len(got) != 1 {
		t.Errorf("no arguments become %q", got)
	}
	long := shorten([]string{"a", strings.Repeat("b", 2*maxArgs), "c"})
	if len(long) != 2 || len(long[0])+len(long[1]) != maxArgs {
		t.Errorf("long arguments become %d", len(long))
	}
}

func TestMappedIDs(t *testing.T) {
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}, {ContainerID: 10, HostID: 5000, Size: 5}}
	for id, want := range map[uint32]uint32{0: 1000, 9: 1009, 10: 5000, 99: 99} {
		if got := mapped(id, maps); got != want {
			t.Errorf("%d is %d, want %d", id, got, want)
		}
	}
}
