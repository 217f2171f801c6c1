package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// poolStatus is what 'pool status --format json' tells.
type poolStatus struct {
	PID          int
	Waiting      []struct{ PID int }
	Hits, Misses int
	Trouble      string
}

// withPool has the commands keep a pool of one machine until the end of the
// test, or of what is cleaned up before.
func withPool(t *testing.T) {
	t.Helper()
	plain := suite.config
	text, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	suite.config = filepath.Join(t.TempDir(), "pool.toml")
	// A claimed machine gets as long as that.
	changed := strings.Replace(string(text), "[vm]\n", "[vm]\nboot_timeout = \"8s\"\n", 1) + "[pool]\nsize = 1\n"
	if err := os.WriteFile(suite.config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s := pool(t)
		if out, err := exec.Command(filepath.Join(suite.bin, "dougong"), "--config", suite.config, "pool", "stop").CombinedOutput(); err != nil {
			t.Errorf("pool stop: %v: %s", err, out)
		}
		if s.PID != 0 {
			reap(t, s.PID)
		}
		suite.config = plain
	})
}

func pool(t *testing.T) (s poolStatus) {
	t.Helper()
	// Callers give directories of their own, and the pool is the host's.
	out, err := exec.Command(filepath.Join(suite.bin, "dougong"), "--config", suite.config, "--root", t.TempDir(), "pool", "status", "--format", "json").Output()
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if err != nil {
		t.Fatalf("pool status: %v: %s", err, out)
	}
	return s
}

// waiting waits until a machine does so.
func waiting(t *testing.T) poolStatus {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < patience; <-time.After(20 * time.Millisecond) {
		if s := pool(t); len(s.Waiting) == 1 {
			return s
		}
	}
	log, _ := os.ReadFile(filepath.Join(suite.state, ".pool/log"))
	t.Fatalf("no machine waits: %+v\n%s", pool(t), log)
	return poolStatus{}
}

// groups is in which cgroups a process is.
func groups(t *testing.T, pid int) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

// showLinks is what a namespace must have afterwards as before.
const showLinks = `tc qdisc; tc filter show dev eth0 ingress 2>/dev/null || true; ip -o link | cut -d : -f 2`

// live takes a container from its creation to its end and returns what it says.
func (c *container) live() string {
	c.t.Helper()
	c.create(nil)
	c.run("start", c.id)
	out := c.out.all(c.t)
	reap(c.t, pid(c.t, c.pidFile()))
	c.run("delete", c.id)
	return out
}

// TestPool has the first container that is created start a keeper, and a second
// one of its kind find a machine: without a network, with interfaces of a
// namespace, and with a device.
func TestPool(t *testing.T) {
	const second = "; ip link add eth1 type veth peer name peer1; ip link set eth1 address 02:00:00:00:06:07; ip addr add 10.7.0.2/24 dev eth1; ip link set peer1 up; ip link set eth1 up"
	for name, kind := range map[string]struct {
		script string
		joined bool
		more   string
		device bool
		want   string
	}{
		"plain":          {script: "ls /sys/class/net", want: "lo\n"},
		"interface":      {script: showNetwork, joined: true, more: "true", want: "10.6.0.2/24\n02:00:00:00:06:02\n"},
		"two interfaces": {script: showNetwork + "; ip -o -4 addr show eth1 | awk '{print $4}'", joined: true, more: second[2:], want: "10.6.0.2/24\n02:00:00:00:06:02\n10.7.0.2/24\n"},
		"device":         {script: "blockdev --getsize64 /dev/data; dd if=/dev/data bs=5 count=1 2>/dev/null", device: true, want: "8388608\nhello"},
	} {
		t.Run(name, func(t *testing.T) {
			var made []*container
			for i := range 2 {
				c := newContainer(t, kind.script)
				c.id = fmt.Sprintf("%s-%d", strings.ReplaceAll(c.id, " ", "-"), i)
				made = append(made, c)
			}
			var before, path string
			if kind.joined {
				path = newNetns(t)
				before = inNetns(t, path, kind.more+"; "+showLinks)
			}
			withPool(t)
			for i, c := range made {
				if kind.joined {
					c.join(path)
				}
				if kind.device {
					c.addDevice(t)
				}
				var waited poolStatus
				if i == 1 {
					waited = waiting(t)
					if in := groups(t, waited.Waiting[0].PID); !strings.Contains(in, cgroup()+"/.pool-") || strings.Contains(in, c.id) {
						t.Errorf("a machine that waits is in\n%s", in)
					}
				}
				c.create(nil)
				if i == 1 {
					if in := groups(t, waited.Waiting[0].PID); !strings.Contains(in, cgroup()+"/"+c.id) || strings.Contains(in, ".pool-") {
						t.Errorf("a machine that was claimed is in\n%s", in)
					}
				}
				c.run("start", c.id)
				if out := c.out.all(t); out != kind.want {
					t.Errorf("container %d says %q, %q", i, out, c.errs.all(t))
				}
				reap(t, pid(t, c.pidFile()))
				c.run("delete", c.id)
			}
			if s := pool(t); s.Hits != 1 || s.Misses != 1 {
				t.Errorf("hits and misses: %+v", s)
			}
			if kind.joined {
				if after := inNetns(t, path, showLinks); after != before {
					t.Errorf("the network namespace was\n%s\nand is\n%s", before, after)
				}
			}
		})
	}
}

// addDevice gives the container a block device of 8 MiB that begins with
// "hello".
func (c *container) addDevice(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 8<<20); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "-f", "--show", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	node := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", node).Run() })
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err != nil {
		t.Fatal(err)
	}
	major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev)
	linux := c.spec["linux"].(map[string]any)
	linux["devices"] = []any{map[string]any{"path": "/dev/data", "type": "b", "major": major, "minor": minor}}
	linux["resources"] = map[string]any{"devices": []any{
		map[string]any{"allow": false, "access": "rwm"}, map[string]any{"allow": true, "type": "b", "major": major, "minor": minor, "access": "rwm"},
	}}
}

// TestPoolOfAKilledKeeper leaves nothing that the next keeper does not clear.
func TestPoolOfAKilledKeeper(t *testing.T) {
	first, next := newContainer(t, "echo first"), newContainer(t, "echo next")
	next.id += "-next"
	withPool(t)
	if out := first.live(); out != "first\n" {
		t.Errorf("the first container says %q", out)
	}
	s := waiting(t)
	if err := unix.Kill(s.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	reap(t, s.PID)
	if out := next.live(); out != "next\n" {
		t.Errorf("the next container says %q", out)
	}
	if again := waiting(t); again.PID == s.PID || again.Waiting[0].PID == s.Waiting[0].PID {
		t.Errorf("before: %+v, afterwards: %+v", s, again)
	}
	if left := cgroupDirs(fmt.Sprintf("%s/.pool-%d", cgroup(), s.PID)); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestPoolOfBrokenMachines has one hang, and one end, when it is claimed: its
// tap is in the network namespace then, or on the way there, and must not be in
// the way of the next.
func TestPoolOfBrokenMachines(t *testing.T) {
	for name, signal := range map[string]unix.Signal{"hangs": unix.SIGSTOP, "ends": unix.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			first, next := newContainer(t, showNetwork), newContainer(t, showNetwork)
			next.id += "-next"
			path := newNetns(t)
			before := inNetns(t, path, showLinks)
			withPool(t)
			for _, c := range []*container{first, next} {
				c.join(path)
				if c == next {
					if err := unix.Kill(waiting(t).Waiting[0].PID, signal); err != nil {
						t.Fatal(err)
					}
				}
				if out := c.live(); out != "10.6.0.2/24\n02:00:00:00:06:02\n" {
					t.Errorf("container %s says %q", c.id, out)
				}
			}
			if after := inNetns(t, path, showLinks); after != before {
				t.Errorf("the network namespace was\n%s\nand is\n%s", before, after)
			}
		})
	}
}
