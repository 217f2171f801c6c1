package critest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// number is one of CRI's figures as crictl prints them.
type number struct {
	Value json.Number
}

func (n number) int() int64 {
	v, _ := n.Value.Int64()
	return v
}

// figures are those of a container or of a pod.
type figures struct {
	CPU           struct{ UsageCoreNanoSeconds number }
	Memory        struct{ WorkingSetBytes number }
	WritableLayer struct{ UsedBytes, InodesUsed number }
	Network       struct {
		DefaultInterface struct {
			Name             string
			RxBytes, TxBytes number
			RxErrors         number
		}
	}
	Process struct{ ProcessCount number }
}

// TestStats: what the kubelet asks for, of a container and of its pod: CPU,
// memory, file system and network.
func TestStats(t *testing.T) { eachSandboxer(t, testStats) }

func testStats(t *testing.T, c *client) {
	t.Helper()
	// The pod's figures are those of its cgroup on the host, and what is above
	// that one is the test's: it goes after the pod.
	t.Cleanup(func() { removeCgroups("dougong-critest-stats") })
	pod, config := c.pod("measured", `"cgroup_parent":"/dougong-critest-stats"`)
	const written = 3 << 20
	script := fmt.Sprintf("head -c %d /dev/urandom >/data; echo written; while :; do :; done", written)
	id := c.container(pod, config, "stats", "", script)
	c.eventually("the container has written", func() bool { return c.ok("logs", id) == "written" })
	c.eventually("the container's figures", func() bool {
		var all struct{ Stats []figures }
		if err := json.Unmarshal([]byte(c.ok("stats", "-o", "json", "--id", id)), &all); err != nil {
			t.Fatal(err)
		}
		if len(all.Stats) != 1 {
			return false
		}
		s := all.Stats[0]
		return s.CPU.UsageCoreNanoSeconds.int() > 1e7 && s.Memory.WorkingSetBytes.int() > 10000 &&
			s.WritableLayer.UsedBytes.int() >= written && s.WritableLayer.InodesUsed.int() > 0
	})
	if c.sandboxer == old {
		// It has no call for pods' figures.
		return
	}
	c.ok("exec", "-s", id, "ping", "-c", "3", "-i", "0.1", "-s", "1000", "10.88.0.1")
	var last string
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(last)
		}
	})
	c.eventually("the pod's figures", func() bool {
		var all struct {
			Stats []struct{ Linux figures }
		}
		out, err := c.run("statsp", "-o", "json", "--id", pod)
		if last = out; err != nil {
			last = err.Error()
			return false
		}
		if err := json.Unmarshal([]byte(out), &all); err != nil {
			t.Fatal(err)
		}
		if len(all.Stats) != 1 {
			return false
		}
		s := all.Stats[0].Linux
		n := s.Network.DefaultInterface
		return s.CPU.UsageCoreNanoSeconds.int() > 1e7 && s.Memory.WorkingSetBytes.int() > 10000 &&
			n.Name == "eth0" && n.RxBytes.int() > 3000 && n.TxBytes.int() > 3000 && n.RxErrors.int() == 0
	})
	c.ok("stop", "-t", "0", id)
}

// removeCgroups removes empty cgroups of a name from every hierarchy.
func removeCgroups(name string) {
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		dirs, _ := filepath.Glob(filepath.Join(pattern, name))
		for _, dir := range dirs {
			_ = os.Remove(dir)
		}
	}
}
