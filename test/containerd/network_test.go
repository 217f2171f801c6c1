package containerd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// inNetwork are the flags of a container in a lab.
func (l *lab) flags(more ...string) []string {
	return append([]string{"--with-ns", "network:" + l.path()}, more...)
}

// TestNetworkNamespace gives a container what is in its network namespace, as it
// is there, and leaves the namespace as it was. The second is a clone.
func TestNetworkNamespace(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		l := newLab(t)
		l.sh(l.inside, "ip link add link eth0 name net1 type macvlan mode bridge; ip link set net1 address 02:00:00:00:00:99; ip addr add 10.8.0.2/24 dev net1; ip link set net1 up")
		l.settle("net1")
		before := l.dump()
		const script = `for a in 10.9.0.1 fd09::1; do ping -c 1 -W 10 $a >/dev/null && echo $a answers; done; arp -n | grep -c 02:00:00:00:00:77
ip -o link | awk '{print $2,$4,$5}'; cat /sys/class/net/*/address; ip -o addr | awk '{print $2,$4}'; ip route; ip -6 route | grep -v fe80 | grep -v ff00`
		const want = `10.9.0.1 answers
fd09::1 answers
1
lo: mtu 65536
eth0: mtu 1400
net1: mtu 1400
02:00:00:00:09:02
00:00:00:00:00:00
02:00:00:00:00:99
lo 127.0.0.1/8
lo ::1/128
eth0 10.9.0.2/24
eth0 fd09::2/64
eth0 fe80::ff:fe00:902/64
net1 10.8.0.2/24
net1 fe80::ff:fe00:99/64
default via 10.9.0.1 dev eth0 
10.8.0.0/24 dev net1 scope link  src 10.8.0.2 
10.9.0.0/24 dev eth0 scope link  src 10.9.0.2 
fd09::/64 dev eth0  metric 256 
default via fd09::1 dev eth0  metric 1024 
`
		for _, options := range [][]string{nil, {"--annotation", "dougong.dev/template=off"}} {
			r := d.run(t, "given", l.flags(options...), "sh", "-c", script)
			if diff := cmp.Diff(want, r.out); diff != "" || r.code != 0 {
				t.Errorf("%q: exit %d, %s (-want +got):\n%s", options, r.code, r.err, diff)
			}
			l.same(before)
		}
	})
}

// TestNetworkShaped bounds both directions.
func TestNetworkShaped(t *testing.T) {
	newest(t, func(t *testing.T, d *daemon) {
		l := newLab(t)
		before := l.dump()
		d.detach(t, "shaped", l.flags("--annotation", "dougong.dev/cpus=2", "--annotation", "dougong.dev/network-queues=2", "--annotation", "dougong.dev/network-inbound-rate=2M", "--annotation", "dougong.dev/network-outbound-rate=3M"), "sleep", "1000")
		out := l.sh(l.inside, "tc qdisc show")
		for _, want := range []string{"rate 3Mbit", "rate 2Mbit"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in %s", want, out)
			}
		}
		if out := d.ok(t, "task", "exec", "--exec-id", "q", "shaped", "sh", "-c", "ls -d /sys/class/net/eth0/queues/rx-* | wc -l; ping -c 1 -W 10 10.9.0.1 >/dev/null && echo answers"); out != "2\nanswers\n" {
			t.Errorf("queues and answer: %q", out)
		}
		d.remove("shaped")
		l.same(before)
		r := d.run(t, "bad", l.flags("--annotation", "dougong.dev/network-inbound-rate=fast"), "true")
		if r.code == 0 || !strings.Contains(r.err, "network-inbound-rate") {
			t.Errorf("a bad rate gives %+v", r)
		}
		l.same(before)
	})
}

// TestNetworkChanges: interfaces and addresses come and go while a container
// runs.
func TestNetworkChanges(t *testing.T) {
	newest(t, func(t *testing.T, d *daemon) {
		l := newLab(t)
		before := l.dump()
		d.detach(t, "changes", l.flags(), "sleep", "1000")
		guest := func(script string) string {
			return d.ctr(t, "task", "exec", "--exec-id", "look", "changes", "sh", "-c", script).out
		}
		for range 2 {
			l.plug("net1", "peer1", 8)
			eventually(t, "the new interface answers", func() bool {
				return strings.Contains(guest("ping -c 1 -W 5 10.8.0.1; cat /sys/class/net/net1/address"), "1 packets received") &&
					strings.Contains(guest("cat /sys/class/net/net1/address; ip addr"), "02:00:00:00:08:02")
			})
			l.sh(l.inside, "ip addr add 10.8.0.3/24 dev net1; ip route add 10.77.0.0/16 via 10.8.0.1; ip link set net1 mtu 1300")
			eventually(t, "the new address", func() bool {
				out := guest("ip addr show net1; ip route")
				return strings.Contains(out, "10.8.0.3/24") && strings.Contains(out, "10.77.0.0/16 via 10.8.0.1") && strings.Contains(out, "mtu 1300")
			})
			l.sh(l.inside, "ip route del 10.77.0.0/16; ip addr del 10.8.0.3/24 dev net1")
			eventually(t, "the end of the address", func() bool {
				out := guest("ip addr show net1; ip route")
				return !strings.Contains(out, "10.8.0.3") && !strings.Contains(out, "10.77.0.0") && strings.Contains(out, "10.8.0.2/24")
			})
			l.sh(l.inside, "ip link del net1")
			eventually(t, "the end of the interface", func() bool { return !strings.Contains(guest("ip link"), "net1") })
		}
		// What was there from the start can go too.
		l.sh(l.inside, "ip link set eth0 down")
		eventually(t, "the end of the first interface", func() bool { return !strings.Contains(guest("ip link"), "eth0") })
		l.sh(l.inside, "ip link set eth0 up; ip addr replace fd09::2/64 dev eth0 nodad; ip route replace default via 10.9.0.1; ip -6 route replace default via fd09::1; ip neigh replace 10.9.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent")
		eventually(t, "the first interface again", func() bool {
			return strings.Contains(guest("ping -c 1 -W 5 10.9.0.1"), "1 packets received")
		})
		d.remove("changes")
		l.settle("eth0")
		l.same(before)
	})
}

// TestNetworkLate fills the namespace between create and start, as Docker does.
func TestNetworkLate(t *testing.T) {
	newest(t, func(t *testing.T, d *daemon) {
		l := newLab(t)
		l.sh(l.inside, "ip link set eth0 down")
		d.ok(t, append(append([]string{"container", "create", "--runtime", runtimeName, "--runtime-config-path", suite.config}, l.flags()...), imageName, "late", "ping", "-c", "1", "-W", "10", "10.9.0.1")...)
		t.Cleanup(func() { d.remove("late") })
		l.sh(l.inside, "ip link set eth0 up")
		if out := d.ok(t, "task", "start", "late"); !strings.Contains(out, "1 packets received") {
			t.Errorf("the container says %q", out)
		}
	})
}

// TestNetworkAfterCrash gives the namespace back when the sandbox process is
// killed.
func TestNetworkAfterCrash(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		l := newLab(t)
		before := l.dump()
		d.detach(t, "crash", l.flags("--annotation", "dougong.dev/network-outbound-rate=3M"), "sleep", "1000")
		if l.dump() == before {
			t.Error("nothing is connected")
		}
		d.signal(t, "containerd-shim-dougong-v2", syscall.SIGKILL)
		eventually(t, "the end is seen", func() bool { return d.status(t, "crash") != "RUNNING" })
		d.remove("crash")
		l.same(before)
	})
}

// TestNetworkRefusals say what was asked for, and take nothing from anybody.
func TestNetworkRefusals(t *testing.T) {
	newest(t, func(t *testing.T, d *daemon) {
		l := newLab(t)
		d.detach(t, "first", l.flags(), "sleep", "1000")
		for want, options := range map[string][]string{
			"another sandbox":           l.flags(),
			"without \"network\"":       {"--net-host"},
			"the host's own":            {"--with-ns", "network:/proc/self/ns/net"},
			"no such file or directory": {"--with-ns", "network:/run/netns/never-was"},
		} {
			r := d.run(t, "refused", options, "true")
			if r.code == 0 || !strings.Contains(r.err, want) {
				t.Errorf("%q gives %+v, want %q", options, r, want)
			}
			d.remove("refused")
		}
		if r := d.ctr(t, "task", "exec", "--exec-id", "e", "first", "ping", "-c", "1", "-W", "10", "10.9.0.1"); !strings.Contains(r.out, "1 packets received") {
			t.Errorf("the first has lost its network: %+v; %s", r, l.sh(l.inside, "ip addr; tc qdisc; tc filter show dev eth0 ingress; tc -s filter show dev dgt3 ingress"))
		}
	})
}

// TestForwardedPorts reaches servers in the guest by the loopback interface of
// the network namespace, where containerd's port-forward dials.
func TestForwardedPorts(t *testing.T) {
	newest(t, func(t *testing.T, d *daemon) {
		l := newLab(t)
		before := l.dump()
		d.detach(t, "ports", l.flags(), "sh", "-c", `echo hello >/tmp/index.html
httpd -p 127.0.0.1:8080 -h /tmp; httpd -p [::1]:8081 -h /tmp; httpd -p 8082 -h /tmp
nc -l -p 9000 -e wc; exec sleep 1000`)
		inside := func(script string) (string, error) {
			out, err := exec.Command("nsenter", "--net="+l.path(), "sh", "-c", script).CombinedOutput()
			return string(out), err
		}
		for _, port := range []string{"8080", "8081", "8082"} {
			var out string
			var err error
			for begin := time.Now(); time.Since(begin) < patience && !strings.Contains(out, "hello"); <-time.After(50 * time.Millisecond) {
				out, err = inside("printf 'GET /index.html HTTP/1.0\r\n\r\n' | " + busyboxPath + " nc -w 20 127.0.0.1 " + port)
			}
			if !strings.Contains(out, "hello") {
				t.Errorf("port %s: %q, %v", port, out, err)
			}
		}
		// The client ends its direction, and then gets the answer.
		if out, err := inside("head -c 1000000 /dev/zero | " + busyboxPath + " nc -w 20 127.0.0.1 9000"); !strings.Contains(out, " 1000000") {
			t.Errorf("half-close: %q, %v", out, err)
		}
		begin := time.Now()
		if out, _ := inside("echo x | " + busyboxPath + " nc -w 20 127.0.0.1 9999"); out != "" && !strings.Contains(out, "reset") || time.Since(begin) > 10*time.Second {
			t.Errorf("a port that nobody listens at: %q after %v", out, time.Since(begin))
		}
		d.remove("ports")
		if out, err := inside(busyboxPath + " nc -w 5 127.0.0.1 8080 </dev/null"); err == nil || !strings.Contains(out, "refused") {
			t.Errorf("after the end: %q, %v", out, err)
		}
		l.same(before)
	})
}

// TestNetworkAfterFailure gives the namespace back when the machine does not
// come up, and the next container gets it.
func TestNetworkAfterFailure(t *testing.T) {
	newest(t, func(t *testing.T, d *daemon) {
		l := newLab(t)
		before := l.dump()
		text, err := os.ReadFile(suite.config)
		if err != nil {
			t.Fatal(err)
		}
		broken := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(broken, []byte(strings.Replace(string(text), "vmlinux", "initramfs.cpio", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"run", "--rm", "--runtime", runtimeName, "--runtime-config-path", broken}, l.flags()...)
		r := d.ctr(t, append(args, imageName, "broken", "true")...)
		if r.code == 0 || !strings.Contains(r.err, "kernel") {
			t.Errorf("a machine without a kernel gives %+v", r)
		}
		d.remove("broken")
		l.same(before)
		if r := d.run(t, "whole", l.flags(), "ping", "-c", "1", "-W", "10", "10.9.0.1"); r.code != 0 {
			t.Errorf("afterwards a container has no network: %+v", r)
		}
		l.same(before)
	})
}
