package podman

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dougong.dev/dougong/test/enclave"
)

// onNetworks is Podman's command with networks of its own.
func onNetworks(args ...string) *exec.Cmd {
	return command(append([]string{"--network-config-dir", filepath.Join(suite.Base, "networks")}, args...)...)
}

// TestBridge publishes a port of a container on a bridge, and has another one
// find it by its name.
func TestBridge(t *testing.T) {
	own.Must(t, "network", "create", "--subnet", "10.91.0.0/24", "demo")
	t.Cleanup(func() { _, _ = own.Run("network", "rm", "--force", "demo") })
	own.Must(t, "run", "--detach", "--network", "demo", "--name", "web", "--publish", "8088:80", image,
		"sh", "-c", "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
	t.Cleanup(func() { _, _ = own.Run("rm", "--force", "--time", "0", "web") })
	enclave.Serves(t, "http://127.0.0.1:8088/index.html", "hello\n")
	out := own.Must(t, "run", "--rm", "--network", "demo", image, "sh", "-c",
		"ip -o -4 addr show eth0 | awk '{print $4}'; wget -q -O - http://web/index.html; wget -q -O - http://$(nslookup web | awk '/^Address/ {a=$2} END {print a}')/index.html")
	if !strings.HasPrefix(out, "10.91.0.") || strings.Count(out, "hello") != 2 {
		t.Errorf("another container says %q", out)
	}
}
