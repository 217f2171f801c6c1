package podman

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"

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
	pool := suite.NewPool(t, config)
	own.Must(t, "network", "create", "--subnet", "10.92.0.0/24", "pooled")
	t.Cleanup(func() { _, _ = own.Run("network", "rm", "--force", "pooled") })
	port := greeter(t)
	pool.Serves(t, func(i int) {
		out := own.Must(t, "--runtime-flag", "config="+config, "run", "--rm", "--network", "pooled", image, "sh", "-c",
			fmt.Sprintf("ip -o -4 addr show eth0 | awk '{print $4}'; nc -w 10 10.92.0.1 %d </dev/null", port))
		if want := fmt.Sprintf("10.92.0.%d/24\nhello", i+2); out != want {
			t.Errorf("run %d says %q, want %q", i, out, want)
		}
	})
	enclave.Gone(t, "the containers' cgroups", "/sys/fs/cgroup/*/libpod_parent/libpod-*")
}
