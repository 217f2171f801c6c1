package critest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestExampleTenants runs the example of two tenants, which must have kernels
// of their own, and leave nothing.
func TestExampleTenants(t *testing.T) {
	c := newClient(t, "podsandbox", "overlayfs")
	script, err := filepath.Abs("../../examples/kubernetes-tenants/run-tenants")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(c.program)+":"+os.Getenv("PATH"),
		"CONTAINER_RUNTIME_ENDPOINT="+c.socket, "IMAGE_SERVICE_ENDPOINT="+c.socket, "IMAGE="+busybox)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, errs.String())
	}
	host, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	const id = `([0-9a-f]{8}-[0-9a-f-]{27})`
	m := regexp.MustCompile(`^tenant-a: ` + id + "\ntenant-b: " + id + "\n$").FindStringSubmatch(string(out))
	if m == nil || m[1] == m[2] || m[1] == strings.TrimSpace(string(host)) {
		t.Errorf("want a kernel for each tenant, and none of the host's:\n%s", out)
	}
	if left := c.ok("pods", "-q"); left != "" {
		t.Errorf("pods are left: %s", left)
	}
}
