package oci

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newNetns makes a network namespace with eth0 in it, at 10.6.0.2, and returns
// its path. It ends with the test.
func newNetns(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	path := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	inNetns(t, path, "ip link add eth0 type veth peer name peer0; ip link set eth0 address 02:00:00:00:06:02; ip addr add 10.6.0.2/24 dev eth0; ip link set peer0 up; ip link set eth0 up")
	return path
}

func inNetns(t *testing.T, path, script string) string {
	t.Helper()
	out, err := exec.Command("nsenter", "--net="+path, "sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// join has the container be in the network namespace at a path.
func (c *container) join(path string) {
	namespaces := c.spec["linux"].(map[string]any)["namespaces"].([]any)
	for _, ns := range namespaces {
		if ns := ns.(map[string]any); ns["type"] == "network" {
			ns["path"] = path
		}
	}
}

const showNetwork = `ip -o -4 addr show eth0 | awk '{print $4}'; cat /sys/class/net/eth0/address`

// TestNetworkNamespace is given back, whether its container ends or its sandbox
// is killed, and serves the next one.
func TestNetworkNamespace(t *testing.T) {
	path := newNetns(t)
	for _, killed := range []bool{true, false} {
		t.Run(fmt.Sprint(killed), func(t *testing.T) {
			c := newContainer(t, showNetwork+"; echo ready; sleep 1000")
			c.join(path)
			c.create(nil)
			c.run("start", c.id)
			c.out.until(t, "10.6.0.2/24\n02:00:00:00:06:02\nready\n")
			if out := inNetns(t, path, "tc qdisc show dev eth0"); !strings.Contains(out, "ingress") {
				t.Errorf("the interface is not connected: %s", out)
			}
			if killed {
				c.killSandbox()
			} else {
				c.run("kill", c.id, "KILL")
			}
			reap(t, pid(t, c.pidFile()))
			c.run("delete", "--force", c.id)
			var out string
			for begin := time.Now(); time.Since(begin) < patience; <-time.After(20 * time.Millisecond) {
				if out = inNetns(t, path, "tc qdisc; ip -o link"); !strings.Contains(out, "ingress") && !strings.Contains(out, "dgt") {
					return
				}
			}
			t.Errorf("left behind: %s", out)
		})
	}
}

// TestNetworkOfAHook fills a new namespace by a hook, as Docker does.
func TestNetworkOfAHook(t *testing.T) {
	for _, kind := range []string{"prestart", "createRuntime"} {
		t.Run(kind, func(t *testing.T) {
			c := newContainer(t, showNetwork)
			const fill = `pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p')
exec nsenter --net=/proc/$pid/ns/net sh -ec 'ip link add eth0 type veth peer name peer0; ip link set eth0 address 02:00:00:00:06:03; ip addr add 10.6.0.3/24 dev eth0; ip link set peer0 up; ip link set eth0 up'`
			c.spec["hooks"] = map[string]any{kind: []any{map[string]any{"path": "/bin/sh", "args": []string{"sh", "-c", fill}, "env": []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}}}}
			c.create(nil)
			c.run("start", c.id)
			c.out.until(t, "10.6.0.3/24\n02:00:00:00:06:03\n")
			reap(t, pid(t, c.pidFile()))
			c.run("delete", c.id)
		})
	}
}

// killSandbox kills the sandbox process, which has become our child.
func (c *container) killSandbox() {
	c.t.Helper()
	var list []struct {
		PID  int
		Name string
	}
	if err := json.Unmarshal([]byte(c.run("ps", "--format", "json")), &list); err != nil {
		c.t.Fatal(err)
	}
	for _, one := range list {
		if one.Name != c.id {
			continue
		}
		if err := unix.Kill(one.PID, unix.SIGKILL); err != nil {
			c.t.Fatal(err)
		}
		reap(c.t, one.PID)
	}
}
