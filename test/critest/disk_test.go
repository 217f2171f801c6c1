package critest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// With the erofs snapshotter the layers of each container of a pod are disks of
// the VM, which are plugged in and out as containers come and go.
func TestPodOfDisks(t *testing.T) {
	c := newClient(t, "podsandbox", "erofs")
	pod, config := c.pod("disks", "")
	own := `"security_context":{"namespace_options":{"pid":1}}`
	const script = "echo written >/file; cat /file; while :; do sleep 1; done"
	first := c.container(pod, config, "first", own, script)
	for round := range 3 {
		second := c.container(pod, config, "second", own, script)
		c.eventually("the container writes", func() bool {
			out, err := c.run("exec", "-s", second, "cat", "/file")
			return err == nil && out == "written"
		})
		if n := c.disks(second); n < 2 {
			t.Errorf("round %d: %d disks are there for two containers", round, n)
		}
		if out := c.ok("exec", "-s", second, "sh", "-c", "grep ' / ' /proc/mounts"); !strings.HasPrefix(out, "overlay ") {
			t.Errorf("the root file system is %s", out)
		}
		c.ok("stop", "-t", "0", second)
		c.ok("rm", second)
	}
	if held := c.heldLayers(); held == 0 {
		t.Error("no layer is open: is this test about disks?")
	}
	before := c.disks(first)
	extra := c.container(pod, config, "extra", own, script)
	c.ok("stop", "-t", "0", extra)
	c.ok("rm", extra)
	if after := c.disks(first); after != before {
		t.Errorf("%d disks are left of %d", after, before)
	}
	if out := c.ok("exec", "-s", first, "cat", "/file"); out != "written" {
		t.Errorf("the first container says %q", out)
	}
}

// disks counts the disks of the VM that a container is in.
func (c *client) disks(id string) int {
	c.t.Helper()
	return len(strings.Fields(c.ok("exec", "-s", id, "sh", "-c", "ls /sys/block | grep ^vd")))
}

// heldLayers counts the files of layers that machines have open.
func (c *client) heldLayers() int {
	n := 0
	for _, kind := range []string{"qemu-system"} {
		for _, pid := range c.processes(kind) {
			files, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*"))
			for _, f := range files {
				if target, err := os.Readlink(f); err == nil && strings.HasSuffix(target, ".erofs") {
					n++
				}
			}
		}
	}
	return n
}
