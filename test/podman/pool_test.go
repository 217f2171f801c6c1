package podman

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"dougong.dev/dougong/test/enclave"
)

// greeter says hello to whoever connects, and returns its port.
func greeter(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("hello\n"))
			_ = conn.Close()
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

// TestPool has 'podman run' start a keeper, whose machines serve the containers
// after the first one. It is in nobody's way: the cgroups of containers go.
func TestPool(t *testing.T) {
	config := filepath.Join(suite.Base, "pool.toml")
	if err := os.WriteFile(config, []byte("[pool]\nsize = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pool := func(args ...string) []byte {
		out, err := exec.Command(filepath.Join(suite.Bin, "dougong"), append([]string{"--config", config, "pool"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("pool %q: %v: %s", args, err, out)
		}
		return out
	}
	t.Cleanup(func() { pool("stop") })
	own.Must(t, "network", "create", "--subnet", "10.92.0.0/24", "pooled")
	t.Cleanup(func() { _, _ = own.Run("network", "rm", "--force", "pooled") })
	port := greeter(t)
	var status struct {
		Waiting      []struct{ PID int }
		Hits, Misses int
	}
	for i := range 3 {
		out := own.Must(t, "--runtime-flag", "config="+config, "run", "--rm", "--network", "pooled", image, "sh", "-c",
			fmt.Sprintf("ip -o -4 addr show eth0 | awk '{print $4}'; nc -w 10 10.92.0.1 %d </dev/null", port))
		if want := fmt.Sprintf("10.92.0.%d/24\nhello", i+2); out != want {
			t.Errorf("run %d says %q, want %q", i, out, want)
		}
		enclave.Eventually(t, "a machine that waits", func() (string, bool) {
			out := pool("status", "--format", "json")
			if err := json.Unmarshal(out, &status); err != nil {
				t.Fatal(err)
			}
			return string(out), len(status.Waiting) == 1
		})
	}
	if status.Hits != 2 || status.Misses != 1 {
		t.Errorf("hits and misses: %+v", status)
	}
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		left, _ := filepath.Glob("/sys/fs/cgroup/*/libpod_parent/libpod-*")
		if len(left) == 0 {
			return
		}
		if time.Since(begin) > enclave.Patience {
			t.Fatalf("cgroups of containers stay: %q", left)
		}
	}
}
