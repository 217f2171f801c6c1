package podman

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// networks is where Podman's networks are described.
func networks(args ...string) []string {
	return append([]string{"--network-config-dir", filepath.Join(suite.Base, "networks")}, args...)
}

// TestBridge publishes a port of a container on a bridge, and has another one
// find it by its name.
func TestBridge(t *testing.T) {
	must(t, networks("network", "create", "--subnet", "10.91.0.0/24", "demo")...)
	t.Cleanup(func() { _, _ = podman(networks("network", "rm", "--force", "demo")...) })
	must(t, networks("run", "--detach", "--network", "demo", "--name", "web", "--publish", "8088:80", "localhost/busybox",
		"sh", "-c", "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp")...)
	t.Cleanup(func() { _, _ = podman(networks("rm", "--force", "--time", "0", "web")...) })
	eventually(t, "an answer at the published port", func() (string, bool) {
		client := http.Client{Timeout: 10 * time.Second}
		resp, err := client.Get("http://127.0.0.1:8088/index.html")
		if err != nil {
			return err.Error(), false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return fmt.Sprint(string(body), err), string(body) == "hello\n"
	})
	out := must(t, networks("run", "--rm", "--network", "demo", "localhost/busybox", "sh", "-c",
		"ip -o -4 addr show eth0 | awk '{print $4}'; wget -q -O - http://web/index.html; wget -q -O - http://$(nslookup web | awk '/^Address/ {a=$2} END {print a}')/index.html")...)
	if !strings.HasPrefix(out, "10.91.0.") || strings.Count(out, "hello") != 2 {
		t.Errorf("another container says %q", out)
	}
}

// eventually waits until something holds, which says what it is instead.
func eventually(t *testing.T, what string, holds func() (string, bool)) {
	t.Helper()
	begin := time.Now()
	for {
		is, ok := holds()
		if ok {
			return
		}
		if time.Since(begin) > patience {
			t.Fatalf("waited in vain: %s: %s", what, is)
		}
		<-time.After(100 * time.Millisecond)
	}
}
