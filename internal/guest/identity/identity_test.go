package identity

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func TestSeed(t *testing.T) {
	needRoot(t)
	for range 2 {
		if err := Seed(bytes.Repeat([]byte{7}, minEntropy)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{0, minEntropy - 1, maxEntropy + 1} {
		if err := Seed(make([]byte, n)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestPoolInfo(t *testing.T) {
	got := poolInfo([]byte{1, 2, 3})
	if len(got) != 11 || got[0] != 24 && got[3] != 24 || !bytes.HasSuffix(got, []byte{1, 2, 3}) {
		t.Fatalf("%x", got)
	}
}

// The clock of the machine that tests is set to what it is.
func TestSetClock(t *testing.T) {
	needRoot(t)
	if err := SetClock(time.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestSetHostname(t *testing.T) {
	needRoot(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with the goroutine, and its namespace with it.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			t.Error(err)
			return
		}
		if err := SetHostname("guest-1"); err != nil {
			t.Error(err)
		}
		if got, _ := os.Hostname(); got != "guest-1" {
			t.Errorf("host name %q", got)
		}
		for _, bad := range []string{"", strings.Repeat("x", 65)} {
			if err := SetHostname(bad); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}()
	<-done
}

func TestSetSysctls(t *testing.T) {
	proc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(proc, "net/ipv4"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(proc, "net/ipv4/ip_forward")
	if err := os.WriteFile(path, []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := SetSysctls(proc, map[string]string{"net.ipv4.ip_forward": "1"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "1" {
		t.Errorf("value %q", got)
	}
	if err := SetSysctls(proc, map[string]string{"/etc/x": "1"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("path outside: %v", err)
	}
	err := SetSysctls(proc, map[string]string{"no.such/thing": "1"})
	if err == nil || !strings.Contains(err.Error(), "no.such/thing") {
		t.Errorf("unknown parameter: %v", err)
	}
}

func TestScatterPIDs(t *testing.T) {
	proc := t.TempDir()
	if err := ScatterPIDs(proc); err == nil {
		t.Error("no error without the file")
	}
	if err := os.MkdirAll(filepath.Join(proc, "sys/kernel"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(proc, "sys/kernel/ns_last_pid"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ScatterPIDs(proc); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(proc, "sys/kernel/ns_last_pid"))
	if n, nerr := strconv.Atoi(string(got)); err != nil || nerr != nil || n < lowPID || n >= highPID {
		t.Errorf("the last id is %q, %v", got, err)
	}
}
