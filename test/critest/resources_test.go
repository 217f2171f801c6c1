package critest

import (
	"strconv"
	"strings"
	"testing"
)

// size is how many CPUs and MiB a container sees of its pod's machine.
func (c *client) size(id string) (cpus, memoryMiB int) {
	c.t.Helper()
	out := strings.Fields(c.ok("exec", "-s", id, "sh", "-c", "grep -c ^processor /proc/cpuinfo; awk '/MemTotal/ { print int($2/1024) }' /proc/meminfo"))
	if len(out) == 2 {
		cpus, _ = strconv.Atoi(out[0])
		memoryMiB, _ = strconv.Atoi(out[1])
	}
	return cpus, memoryMiB
}

// A pod's machine grows with each container that comes and with what is
// updated, and shrinks when they are gone.
func TestPodGrows(t *testing.T) { eachSandboxer(t, testPodGrows) }

func testPodGrows(t *testing.T, c *client) {
	t.Helper()
	pod, config := c.pod("grows", "")
	first := c.container(pod, config, "first", "", "sleep 1000")
	cpus, memory := c.size(first)
	if cpus != 1 || memory > 512 {
		t.Fatalf("it begins with %d CPUs and %d MiB", cpus, memory)
	}
	second := c.container(pod, config, "second", `"resources":{"cpu_period":100000,"cpu_quota":150000,"memory_limit_in_bytes":629145600}`, "sleep 1000")
	if cpus, memory := c.size(first); cpus != 2 || memory < 690 || memory > 768 {
		t.Errorf("with a second container there are %d CPUs and %d MiB, want 2 and 768", cpus, memory)
	}
	c.ok("update", "--memory", "1048576000", second)
	if _, memory := c.size(second); memory < 1200 || memory > 1280 {
		t.Errorf("after an update there are %d MiB, want 1280", memory)
	}
	if limit := c.ok("exec", "-s", second, "cat", "/sys/fs/cgroup/memory.max"); limit != "1048576000" {
		t.Errorf("the limit is %s", limit)
	}
	c.ok("stop", "-t", "0", second)
	c.ok("rm", second)
	c.eventually("it shrinks to what it was", func() bool {
		n, m := c.size(first)
		return n == cpus && m == memory
	})
}

// A container that takes more memory than it may is killed, and no other.
func TestOOMKilled(t *testing.T) { eachSandboxer(t, testOOMKilled) }

func testOOMKilled(t *testing.T, c *client) {
	t.Helper()
	pod, config := c.pod("oom", "")
	limit := `"resources":{"memory_limit_in_bytes":67108864,"memory_swap_limit_in_bytes":67108864}`
	good := c.container(pod, config, "good", limit, "sleep 1000")
	bad := c.container(pod, config, "bad", limit, "dd if=/dev/zero of=/dev/null bs=100M count=1")
	c.eventually("the end of the container", func() bool { return c.state(bad) == "CONTAINER_EXITED" })
	if reason := c.ok("inspect", "-o", "go-template", "--template", "{{.status.reason}}", bad); reason != "OOMKilled" {
		t.Errorf("the reason is %s", reason)
	}
	if state := c.state(good); state != "CONTAINER_RUNNING" {
		t.Errorf("the other is %s", state)
	}
}
