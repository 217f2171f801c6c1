package containerd

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cniPlugins is where the distribution has the plugins.
const cniPlugins = "/usr/lib/cni"

// apartScript gives a daemon the directories that CNI keeps things in, and
// clients look for plugins in, without making any of them on this host. $0 is a
// directory for what is written.
const apartScript = `
mkdir -p "$0/apart"
mount -t tmpfs tmpfs "$0/apart"
for dir in etc opt var/lib; do
	mkdir -p "$0/apart/$dir/upper" "$0/apart/$dir/work"
	mount -t overlay -o "lowerdir=/$dir,upperdir=$0/apart/$dir/upper,workdir=$0/apart/$dir/work" overlay "/$dir"
done
rm -rf /etc/cni /var/lib/cni /opt/cni
mkdir -p /etc/cni/net.d /opt/cni
ln -s ` + cniPlugins + ` /opt/cni/bin
ip link set lo up
exec "$@"`

// apart runs a test under a newest daemon with a network of its own, in which
// plugins may make bridges and rules.
func apart(t *testing.T, test func(t *testing.T, d *daemon)) {
	t.Helper()
	for _, other := range suite.daemons {
		if !other.isNew() {
			continue
		}
		d := newDaemon(other.bin, filepath.Join(suite.base, fmt.Sprintf("apart%d", time.Now().UnixNano()%1000)))
		d.apart = true
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.stop)
		if err := d.importImage(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.checkLeaks(t) })
		test(t, d)
		return
	}
}

// sh runs a script where the daemon is.
func (d *daemon) sh(t *testing.T, script string) string {
	t.Helper()
	out, err := d.beside("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// bridgeConfig is a network as ctr takes it from /etc/cni/net.d.
const bridgeConfig = `{"cniVersion": "1.0.0", "name": "demo", "plugins": [
{"type": "bridge", "bridge": "demo0", "isGateway": true, "ipMasq": true, "ipam": {"type": "host-local",
 "ranges": [[{"subnet": "10.5.0.0/24"}], [{"subnet": "fd05::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
{"type": "portmap", "capabilities": {"portMappings": true}}]}`

// TestCNIFilledLate: ctr makes the network when the task is there, and before
// it is started.
func TestCNIFilledLate(t *testing.T) {
	apart(t, func(t *testing.T, d *daemon) {
		d.sh(t, "cat >/etc/cni/net.d/10-demo.conflist <<'E'\n"+bridgeConfig+"\nE")
		for range 2 {
			r := d.run(t, "late", []string{"--cni"}, "sh", "-c", "ip addr show eth0; ping -c 1 -W 10 10.5.0.1; ping -c 1 -W 10 fd05::1")
			if r.code != 0 || strings.Count(r.out, "1 packets received") != 2 || !strings.Contains(r.out, "inet 10.5.0.") || !strings.Contains(r.out, "inet6 fd05::") {
				t.Errorf("the container says %+v", r)
			}
		}
		if left := d.sh(t, "ls /var/lib/cni/networks/demo | grep -v last_reserved | grep -v lock || true; ip -o link show master demo0"); left != "" {
			t.Errorf("left behind: %s", left)
		}
	})
}

// TestNerdctlNetwork: containers on nerdctl's own bridge publish ports, reach
// each other by address and by name, and resolve names.
func TestNerdctlNetwork(t *testing.T) {
	apart(t, func(t *testing.T, d *daemon) {
		n := nerdctl{d}
		const serve = "echo hello from $HOSTNAME >/tmp/index.html; exec httpd -f -p 80 -h /tmp"
		resident := func(name string, flags ...string) {
			args := append([]string{"run", "-d", "--runtime", runtimeName, "--name", name, "--hostname", name}, flags...)
			n.ok(t, append(args, "busybox", "sh", "-c", serve)...)
			t.Cleanup(func() { _ = n.command("rm", "-f", name).Run() })
		}
		resident("web", "-p", "8080:80")
		resident("other", "--dns", "10.4.0.1")
		ip := strings.TrimSpace(n.ok(t, "inspect", "--format", "{{.NetworkSettings.IPAddress}}", "web"))
		if net.ParseIP(ip) == nil {
			t.Fatalf("the address is %q", ip)
		}
		for _, target := range []string{ip, "web"} {
			eventually(t, "an answer of "+target, func() bool {
				r := n.run(t, "", "exec", "other", "wget", "-q", "-O", "-", "http://"+target+"/index.html")
				return r.out == "hello from web\n"
			})
		}
		gateway := strings.TrimSpace(d.sh(t, "ip -4 -o addr show nerdctl0 | awk '{print $4}' | cut -d / -f 1"))
		for _, address := range []string{"127.0.0.1:8080", gateway + ":8080", ip + ":80"} {
			if got := d.get(t, address); !strings.Contains(got, "hello from web") {
				t.Errorf("http://%s answers %q", address, got)
			}
		}
		if out := n.ok(t, "exec", "other", "cat", "/etc/resolv.conf"); !strings.Contains(out, "nameserver 10.4.0.1") {
			t.Errorf("resolv.conf is %q", out)
		}
		n.ok(t, "rm", "-f", "web", "other")
		if left := d.sh(t, "ls /var/lib/cni/networks/bridge | grep -v last_reserved | grep -v lock || true; ip -o link show master nerdctl0; iptables-save | grep 'dport 8080' || true"); left != "" {
			t.Errorf("left behind: %s", left)
		}
	})
}

// get asks a server from where the daemon is.
func (d *daemon) get(t *testing.T, address string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	cmd := d.beside(busyboxPath, "nc", "-w", "20", host, port)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := io.WriteString(in, "GET /index.html HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil {
		return fmt.Sprint(err, string(out))
	}
	return string(out)
}
