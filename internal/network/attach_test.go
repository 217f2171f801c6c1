package network

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lab is a namespace with an interface eth0 whose other end is in another one.
type lab struct {
	*Namespace
	t       *testing.T
	outside *Namespace
}

func newNamespace(t *testing.T) *Namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	n, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{Namespace: newNamespace(t), t: t, outside: newNamespace(t)}
	l.sh("ip link set lo up; ip link add eth0 type veth peer name peer0; ip link set eth0 mtu 1400 address 02:00:00:00:00:02; echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
	l.change(func(h *netlink.Handle) error {
		peer, err := h.LinkByName("peer0")
		if err != nil {
			return err
		}
		return h.LinkSetNsFd(peer, int(l.outside.file.Fd()))
	})
	l.sh("ip addr add 10.9.0.2/24 dev eth0; ip addr add fd09::2/64 dev eth0 nodad; ip link set eth0 up; ip route add default via 10.9.0.1; ip neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent")
	inside(t, l.outside, "ip link set peer0 mtu 1400 address 02:00:00:00:00:01 up; ip addr add 10.9.0.1/24 dev peer0")
	l.settle()
	return l
}

// settle waits until the kernel has done what it does on its own when a cable is
// plugged in.
func (l *lab) settle() {
	l.t.Helper()
	for range 500 {
		if out := l.sh("ip addr show dev eth0"); strings.Contains(out, "state UP") && strings.Contains(out, "inet6 fe80:") && !strings.Contains(out, "tentative") {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	l.t.Fatalf("eth0 does not come up: %s", l.sh("ip addr"))
}

func (l *lab) change(f func(h *netlink.Handle) error) {
	l.t.Helper()
	if err := l.handle(f); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) sh(script string) string {
	l.t.Helper()
	return inside(l.t, l.Namespace, script)
}

// inside runs a script in a namespace.
func inside(t *testing.T, n *Namespace, script string) string {
	t.Helper()
	var out []byte
	err := n.Do(func() (err error) {
		out, err = exec.Command("sh", "-ec", script).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

func (l *lab) link(name string) Link {
	l.t.Helper()
	s, err := l.Snapshot()
	if err != nil {
		l.t.Fatal(err)
	}
	for _, link := range s.Links {
		if link.Name == name {
			return link
		}
	}
	l.t.Fatalf("there is no %s in %+v", name, s.Links)
	return Link{}
}

var passing = regexp.MustCompile(`(valid_lft|expires) .*| tentative| dadfailed`)

// dump is all that tools show of a namespace.
func (l *lab) dump() string {
	return passing.ReplaceAllString(l.sh("exec 2>/dev/null; ip -d addr; ip route show table all; ip -6 route show table all; ip neigh; tc qdisc; tc filter show dev eth0 ingress 2>/dev/null || true"), "")
}

func TestSnapshot(t *testing.T) {
	l := newLab(t)
	s, err := l.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	p := NewPlan(s)
	if len(p.Links) != 1 || p.Links[0].Kind != "veth" || !p.Links[0].IPv6 {
		t.Fatalf("links: %+v", p.Links)
	}
	compareGolden(t, "lab.json", p.Guest)
}

// TestAttach carries frames both ways, and leaves no trace.
func TestAttach(t *testing.T) {
	l := newLab(t)
	before := l.dump()
	for name, o := range map[string]Options{
		"plain": {Queues: 1}, "queues": {Queues: 4}, "shaped": {Queues: 1, Receive: 1e6, Send: 1e6}, "shaped queues": {Queues: 2, Receive: MinRate, Send: MaxRate},
	} {
		t.Run(name, func(t *testing.T) {
			tap, err := l.Attach(t.Context(), l.link("eth0"), o)
			if err != nil {
				t.Fatal(err)
			}
			defer tap.Detach()
			if len(tap.Files) != o.Queues {
				t.Errorf("%d queues, want %d", len(tap.Files), o.Queues)
			}
			if p := NewPlan(mustSnapshot(t, l.Namespace)); len(p.Links) != 1 {
				t.Errorf("the tap counts as an interface of its own: %+v", p.Links)
			}
			l.exchange(t, tap)
			for range 2 {
				if err := tap.Detach(); err != nil {
					t.Error(err)
				}
			}
			if diff := cmp.Diff(before, l.dump()); diff != "" {
				t.Errorf("the namespace is not as it was (-before +after):\n%s", diff)
			}
		})
	}
}

// TestAttachBlank moves a tap that somebody holds already, who goes on with it.
func TestAttachBlank(t *testing.T) {
	l := newLab(t)
	before := l.dump()
	for name, o := range map[string]Options{"plain": {Queues: 1}, "queues": {Queues: 3}, "shaped": {Queues: 1, Receive: 1e6, Send: 1e6}} {
		t.Run(name, func(t *testing.T) {
			held, err := Blank(o.Queues)
			if err != nil {
				t.Fatal(err)
			}
			defer closeAll(held)
			begin := time.Now()
			tap, err := l.AttachBlank(t.Context(), l.link("eth0"), o, held[0])
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("attached in %v", time.Since(begin))
			defer tap.Detach()
			if len(tap.Files) != 0 {
				t.Errorf("it has %d files of its own", len(tap.Files))
			}
			if from, err := namespaceOf(held[0]); err != nil {
				t.Error(err)
			} else if left := mustSnapshot(t, from).Links; len(left) != 1 || from.Close() != nil {
				t.Errorf("where it was there is %+v", left)
			}
			l.exchange(t, &Tap{Files: held})
			if err := tap.Detach(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(before, l.dump()); diff != "" {
				t.Errorf("the namespace is not as it was (-before +after):\n%s", diff)
			}
		})
	}
}

// TestAttachBlankRefuses leaves everything alone, also where the tap has come
// already.
func TestAttachBlankRefuses(t *testing.T) {
	l := newLab(t)
	held, err := Blank(1)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(held)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	before := l.dump()
	for _, c := range []struct {
		name  string
		queue *os.File
		o     Options
	}{{"no tap", null, Options{Queues: 1}}, {"low rate", held[0], Options{Queues: 1, Receive: MinRate - 1}}, {"gone tap", held[0], Options{Queues: 1}}} {
		if tap, err := l.AttachBlank(t.Context(), l.link("eth0"), c.o, c.queue); err == nil || !strings.Contains(err.Error(), "eth0") {
			t.Errorf("%s: %v, %v", c.name, tap, err)
		}
		if diff := cmp.Diff(before, l.dump()); diff != "" {
			t.Errorf("%s: the namespace is not as it was (-before +after):\n%s", c.name, diff)
		}
	}
}

func mustSnapshot(t *testing.T, n *Namespace) Snapshot {
	t.Helper()
	s, err := n.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// vnetHeader is in front of every frame.
const vnetHeader = 10

// exchange plays a guest that answers ARP, and asks it from outside.
func (l *lab) exchange(t *testing.T, tap *Tap) {
	t.Helper()
	answered := make(chan error, 1)
	go func() { answered <- answerARP(tap.Files, net.IPv4(10, 9, 0, 2).To4()) }()
	inside(t, l.outside, "ip neigh flush dev peer0")
	err := l.outside.Do(func() error {
		c, err := net.Dial("udp4", "10.9.0.2:9")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	var out string
	for range 100 {
		if out = inside(t, l.outside, "ip neigh show 10.9.0.2"); strings.Contains(out, "02:67:75:65:73:74") {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Errorf("the guest's address is not known outside: %q", out)
}

// answerARP waits for a question for an address and answers it with a hardware
// address that nobody else has. The namespace itself, which has this IP address
// too, must not have answered.
func answerARP(queues []*os.File, ip net.IP) error {
	frame := make([]byte, 2000)
	deadline := time.Now().Add(10 * time.Second)
	for {
		polled := make([]unix.PollFd, len(queues))
		for i, q := range queues {
			polled[i] = unix.PollFd{Fd: int32(q.Fd()), Events: unix.POLLIN}
		}
		n, err := unix.Poll(polled, int(time.Until(deadline).Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n == 0 {
			return errors.New("nobody asks")
		}
		for i, q := range queues {
			if polled[i].Revents&unix.POLLIN == 0 {
				continue
			}
			n, err := unix.Read(int(q.Fd()), frame)
			if err != nil {
				return err
			}
			arp := frame[vnetHeader:n]
			if len(arp) < 42 || !bytes.Equal(arp[12:14], []byte{8, 6}) || !bytes.Equal(arp[38:42], ip) {
				continue
			}
			_, err = unix.Write(int(q.Fd()), arpReply(arp))
			return err
		}
	}
}

func arpReply(question []byte) []byte {
	guest := []byte{0x02, 0x67, 0x75, 0x65, 0x73, 0x74}
	frame := make([]byte, vnetHeader, 60)
	frame = append(frame, question[6:12]...)
	frame = append(frame, guest...)
	frame = append(frame, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2)
	frame = append(frame, guest...)
	frame = append(frame, question[38:42]...)
	return append(frame, question[22:32]...)
}

// TestAttachOfOtherKinds: a tap that somebody else serves, and a macvlan.
func TestAttachOfOtherKinds(t *testing.T) {
	l := newLab(t)
	l.sh("ip link add link eth0 name mv0 type macvlan mode bridge; ip link set mv0 up; ip tuntap add tap0 mode tap; ip link set tap0 up")
	before := l.dump()
	for _, name := range []string{"mv0", "tap0"} {
		tap, err := l.Attach(t.Context(), l.link(name), Options{Queues: 1})
		if err != nil {
			t.Error(err)
			continue
		}
		if err := tap.Detach(); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, l.dump()); diff != "" {
		t.Errorf("the namespace is not as it was (-before +after):\n%s", diff)
	}
}

// TestAttachRefuses leaves everything alone.
func TestAttachRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		o      Options
		want   string
	}{
		"ingress":        {"tc qdisc add dev eth0 ingress", Options{Queues: 1}, "(ingress)"},
		"clsact":         {"tc qdisc add dev eth0 clsact", Options{Queues: 1}, "(clsact)"},
		"shaped already": {"tc qdisc add dev eth0 root handle 5: tbf rate 1mbit burst 10k latency 50ms", Options{Queues: 1, Send: MinRate}, "(tbf)"},
		"low rate":       {"true", Options{Queues: 1, Receive: MinRate - 1}, "bits for a second"},
		"no queue":       {"true", Options{}, "find tap"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.sh(tt.script)
			before := l.dump()
			tap, err := l.Attach(t.Context(), l.link("eth0"), tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "eth0") {
				t.Errorf("%v, %v", tap, err)
			}
			if diff := cmp.Diff(before, l.dump()); diff != "" {
				t.Errorf("the namespace is not as it was (-before +after):\n%s", diff)
			}
		})
	}
}

// TestSecondSandbox must not take the first one's interface away.
func TestSecondSandbox(t *testing.T) {
	l := newLab(t)
	first, err := l.Attach(t.Context(), l.link("eth0"), Options{Queues: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Detach()
	if _, err := l.Attach(t.Context(), l.link("eth0"), Options{Queues: 1}); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "another sandbox") {
		t.Errorf("a second sandbox gets %v", err)
	}
	l.exchange(t, first)
}

// TestRestore cleans up after a process that was killed: its taps have gone with
// it, and what was added to interfaces has not.
func TestRestore(t *testing.T) {
	l := newLab(t)
	before := l.dump()
	tap, err := l.Attach(t.Context(), l.link("eth0"), Options{Queues: 2, Receive: 1e6, Send: 1e6})
	if err != nil {
		t.Fatal(err)
	}
	if l.dump() == before {
		t.Fatal("nothing was added")
	}
	if err := l.Restore(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"eth0", tap.name} {
		if out := l.sh("tc qdisc show dev " + name); !strings.Contains(out, "ingress") || !strings.Contains(out, "tbf") {
			t.Errorf("what is in use was taken away: %s", out)
		}
	}
	tap.Inherited()
	for range 2 {
		if err := l.Restore(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(before, l.dump()); diff != "" {
			t.Errorf("the namespace is not as it was (-before +after):\n%s", diff)
		}
	}
	// Somebody else's stay.
	l.sh("tc qdisc add dev eth0 ingress; tc qdisc add dev eth0 root handle 5: tbf rate 1mbit burst 10k latency 50ms")
	before = l.dump()
	if err := l.Restore(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, l.dump()); diff != "" {
		t.Errorf("another one's disciplines are gone (-before +after):\n%s", diff)
	}
}

// TestRestoreOfWhatIsGone: a namespace often goes before its sandbox.
func TestRestoreOfWhatIsGone(t *testing.T) {
	if err := Restore("/run/netns/never-was"); err != nil {
		t.Error(err)
	}
	if err := Restore("/proc/self/ns/net"); err == nil {
		t.Error("the host's own network was looked for what we left")
	}
}

// TestDetachAfterTheLink: what a plugin removes takes its own with it.
func TestDetachAfterTheLink(t *testing.T) {
	l := newLab(t)
	tap, err := l.Attach(t.Context(), l.link("eth0"), Options{Queues: 1})
	if err != nil {
		t.Fatal(err)
	}
	l.sh("ip link del eth0")
	if err := tap.Detach(); err != nil {
		t.Error(err)
	}
	if got := mustSnapshot(t, l.Namespace).Links; len(got) != 1 {
		t.Errorf("left behind: %+v", got)
	}
}

func TestFollow(t *testing.T) {
	l := newLab(t)
	tap, err := l.Attach(t.Context(), l.link("eth0"), Options{Queues: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Detach()
	l.sh("ip link set eth0 mtu 1300")
	if err := tap.Follow(l.link("eth0")); err != nil {
		t.Fatal(err)
	}
	if got := l.link(tap.name).MTU; got != 1300 {
		t.Errorf("the tap has an MTU of %d", got)
	}
}

// TestWatch tells of changes, and ends when it is stopped.
func TestWatch(t *testing.T) {
	l := newLab(t)
	changes, stop, err := l.Watch()
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{
		"ip link add late type veth peer name later", "ip link set late up", "ip addr add 10.8.0.1/24 dev late",
		"ip route add 10.7.0.0/16 via 10.9.0.1", "ip -6 route add fd07::/64 via fd09::1", "ip link del late",
	} {
		drain(changes)
		l.sh(script)
		select {
		case <-changes:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: nothing is told", script)
		}
	}
	stop()
	for range changes {
	}
}

func drain(changes <-chan struct{}) {
	for {
		select {
		case <-changes:
		case <-time.After(20 * time.Millisecond):
			return
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for path, class := range map[string]func(error) bool{
		"/none": os.IsNotExist, "/proc/self/ns/uts": errdefs.IsInvalidArgument, os.DevNull: errdefs.IsInvalidArgument,
		"/proc/self/ns/net": errdefs.IsInvalidArgument,
	} {
		n, err := Open(path)
		if err == nil || !strings.Contains(err.Error(), path) || path != "/none" && !class(err) {
			t.Errorf("%s: %v, %v", path, n, err)
		}
	}
}

// TestPathOutlives: others join a namespace by its path, and find it.
func TestPathOutlives(t *testing.T) {
	l := newLab(t)
	again, err := Open(l.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if len(mustSnapshot(t, again).Links) != 2 {
		t.Error("it is another namespace")
	}
}

// TestThreadsComeBack: no goroutine may end up in a namespace by accident.
func TestThreadsComeBack(t *testing.T) {
	l := newLab(t)
	want, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		_ = l.Do(func() error { return context.Canceled })
	}
	threads, _ := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		if got, err := os.Readlink("/proc/self/task/" + thread.Name() + "/ns/net"); err == nil && got != want {
			// A thread that is on its way out is seen now and then.
			<-time.After(100 * time.Millisecond)
			if got, err := os.Readlink("/proc/self/task/" + thread.Name() + "/ns/net"); err == nil && got != want {
				t.Errorf("thread %s stays in %s", thread.Name(), got)
			}
		}
	}
}

func TestBlank(t *testing.T) {
	newNamespace(t)
	for _, queues := range []int{1, 3} {
		files, err := Blank(queues)
		if err != nil || len(files) != queues {
			t.Errorf("%d queues: %v, %v", queues, files, err)
		}
		closeAll(files)
	}
}
