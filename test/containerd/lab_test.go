package containerd

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lab is a network namespace for a container, and another one outside of it.
type lab struct {
	t               *testing.T
	inside, outside netns
}

// netns is the path of a network namespace.
type netns string

// newNetns makes a namespace that ends with the test.
func newNetns(t *testing.T) netns {
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
	return netns(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
}

// pid is the process that holds the namespace.
func (n netns) pid() string { return strings.Split(string(n), "/")[2] }

// newLab makes both, and eth0 in the one as what a CNI plugin leaves there: the
// other end of it is peer0 outside, at 10.9.0.1 and fd09::1.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t}
	l.inside, l.outside = newNetns(t), newNetns(t)
	l.sh(l.inside, "ip link set lo up")
	l.sh(l.outside, "ip link set lo up")
	l.plug("eth0", "peer0", 9)
	l.sh(l.inside, "ip route add default via 10.9.0.1; ip -6 route add default via fd09::1; ip neigh add 10.9.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent")
	l.settle("eth0")
	return l
}

// plug adds an interface with addresses of the network of that number.
func (l *lab) plug(name, peer string, n byte) {
	l.t.Helper()
	digit := string('0' + n%10)
	script := strings.NewReplacer("NAME", name, "PEER", peer, "N", digit, "PID", l.outside.pid()).Replace(`
ip link add NAME type veth peer name PEER
ip link set NAME mtu 1400 address 02:00:00:00:0N:02
echo 0 >/proc/sys/net/ipv6/conf/NAME/accept_dad
ip link set PEER netns PID
ip addr add 10.N.0.2/24 dev NAME; ip addr add fd0N::2/64 dev NAME nodad
ip link set NAME up`)
	l.sh(l.inside, script)
	l.sh(l.outside, strings.NewReplacer("PEER", peer, "N", digit).Replace(
		"ip link set PEER mtu 1400 up; ip addr add 10.N.0.1/24 dev PEER; ip addr add fd0N::1/64 dev PEER nodad"))
}

// path is what a container's spec names.
func (l *lab) path() string { return string(l.inside) }

func (l *lab) sh(n netns, script string) string {
	l.t.Helper()
	out, err := exec.Command("nsenter", "--net="+string(n), "sh", "-ec", script).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// settle waits until the kernel has done what it does on its own when a cable is
// plugged in.
func (l *lab) settle(name string) {
	l.t.Helper()
	eventually(l.t, name+" is up", func() bool {
		out := l.sh(l.inside, "ip addr show dev "+name)
		return strings.Contains(out, "state UP") && strings.Contains(out, "inet6 fe80:") && !strings.Contains(out, "tentative")
	})
}

var passing = regexp.MustCompile(`(valid_lft|expires) .*`)

// dump is all that tools show of the container's namespace.
func (l *lab) dump() string {
	l.t.Helper()
	return passing.ReplaceAllString(l.sh(l.inside, "exec 2>/dev/null; ip -d addr; ip route show table all; ip -6 route show table all; ip neigh show nud permanent; tc qdisc"), "")
}

// same checks that the namespace is as it was.
func (l *lab) same(before string) {
	l.t.Helper()
	var now string
	for begin := time.Now(); time.Since(begin) < grace; <-time.After(50 * time.Millisecond) {
		if now = l.dump(); now == before {
			return
		}
	}
	l.t.Errorf("the network namespace is not as it was; before:\n%s\nafter:\n%s", before, now)
}
