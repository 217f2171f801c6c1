package containerd

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// otherKinds are interfaces that are no veth, made from outside as net1 of the
// container's namespace. What is behind them has the address 10.7.0.1.
var otherKinds = map[string]func(l *lab){
	"macvlan": func(l *lab) { l.onTopOf("macvlan mode bridge") },
	"ipvlan":  func(l *lab) { l.onTopOf("ipvlan mode l2") },
	"tap":     (*lab).serveTap,
}

// TestNetworkOfOtherKinds carries pings and a stream both ways.
func TestNetworkOfOtherKinds(t *testing.T) {
	newest(t, func(t *testing.T, d *daemon) {
		for kind, plug := range otherKinds {
			t.Run(kind, func(t *testing.T) {
				if kind != "tap" && !hasKind(kind) {
					t.Skipf("this kernel has no %s", kind)
				}
				l := newLab(t)
				plug(l)
				l.sh(l.inside, "ip addr add 10.7.0.2/24 dev net1; ip link set net1 up")
				l.sh(l.outside, "ip addr add 10.7.0.1/24 dev far0; ip link set far0 up")
				// A tap has no state.
				eventually(t, "net1 is up", func() bool {
					out := l.sh(l.inside, "ip addr show dev net1 2>/dev/null")
					return strings.Contains(out, "inet6 fe80:") && !strings.Contains(out, "tentative")
				})
				before := l.dump()
				const size = 300_000
				echo := exec.Command("nsenter", "--net="+string(l.outside), busyboxPath, "nc", "-l", "-p", "7000", "-e", busyboxPath, "cat")
				if err := echo.Start(); err != nil {
					t.Fatal(err)
				}
				script := fmt.Sprintf("cat /sys/class/net/net1/address; ping -c 2 -W 10 10.7.0.1 | grep received; head -c %d /dev/zero | nc -w 20 10.7.0.1 7000 | wc -c", size)
				r := d.run(t, "kind", l.flags(), "sh", "-c", script)
				mac := l.sh(l.inside, "ip -o link show net1 2>/dev/null | sed 's/.*ether //; s/ .*//'")
				if err := echo.Wait(); err != nil {
					t.Error(err)
				}
				for _, want := range []string{strings.TrimSpace(mac), "2 packets received", fmt.Sprint(size)} {
					if !strings.Contains(r.out, want) {
						t.Errorf("%q is not in %+v", want, r)
					}
				}
				l.same(before)
			})
		}
	})
}

// hasKind tries to make an interface of a kind.
func hasKind(kind string) bool {
	script := "ip link add base0 type veth peer name far0 && ip link add link base0 name net1 type " + kind
	return exec.Command("unshare", "--net", "sh", "-c", script).Run() == nil
}

// onTopOf makes net1 on top of an interface outside.
func (l *lab) onTopOf(kind string) {
	l.t.Helper()
	l.sh(l.outside, "ip link add base0 type veth peer name far0; ip link set base0 up; ip link set far0 up; ip link add link base0 name net1 type "+kind+"; ip link set net1 netns "+l.inside.pid())
}

// serveTap makes net1 a tap whose other end this process has, and carries frames
// between it and one outside.
func (l *lab) serveTap() {
	l.t.Helper()
	inside, outside := l.openTap(l.inside, "net1"), l.openTap(l.outside, "far0")
	for _, way := range [][2]*os.File{{inside, outside}, {outside, inside}} {
		go func() {
			frame := make([]byte, 1<<16)
			for {
				n, err := way[0].Read(frame)
				if err != nil {
					return
				}
				// Nobody may be there yet.
				_, _ = way[1].Write(frame[:n])
			}
		}()
	}
}

// openTap makes a tap in a namespace. The thread that goes there comes back: were
// it to end, so would the daemons that it has started.
func (l *lab) openTap(n netns, name string) *os.File {
	l.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		l.t.Fatal(err)
	}
	defer home.Close()
	file, err := tapIn(string(n), name)
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil || back != nil {
		l.t.Fatal(err, back)
	}
	l.t.Cleanup(func() { _ = file.Close() })
	return file
}

func tapIn(namespace, name string) (*os.File, error) {
	ns, err := os.Open(namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// TestNetworkRates: what is bounded takes its time, in both directions.
func TestNetworkRates(t *testing.T) {
	newest(t, func(t *testing.T, d *daemon) {
		const size = 1_000_000
		// What passes at once is subtracted, and something for luck.
		least := func(bits float64) time.Duration {
			return time.Duration(0.8 * (size - 128<<10) * 8 / bits * float64(time.Second))
		}
		l := newLab(t)
		d.detach(t, "rates", l.flags("--annotation", "dougong.dev/network-inbound-rate=2M", "--annotation", "dougong.dev/network-outbound-rate=3M"),
			"sh", "-c", "nc -l -p 5000 -e wc -c; sleep 1000")
		guest := func(script string) string {
			return d.ctr(t, "task", "exec", "--exec-id", "e", "rates", "sh", "-c", script).out
		}
		eventually(t, "the server in the guest", func() bool { return strings.Contains(guest("netstat -ltn"), ":5000") })
		server := exec.Command("nsenter", "--net="+string(l.outside), busyboxPath, "nc", "-l", "-p", "5000", "-e", busyboxPath, "wc", "-c")
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the server outside", func() bool { return strings.Contains(l.sh(l.outside, "ss -ltn"), ":5000") })
		// The other side counts, and says how much there was.
		const send = "head -c %d /dev/zero | %snc -w 20 %s 5000"
		for way, tt := range map[string]struct {
			send func() string
			bits float64
		}{
			"out": {func() string { return guest(fmt.Sprintf(send, size, "", "10.9.0.1")) }, 3e6},
			"in":  {func() string { return l.sh(l.outside, fmt.Sprintf(send, size, busyboxPath+" ", "10.9.0.2")) }, 2e6},
		} {
			begin := time.Now()
			if out := strings.TrimSpace(tt.send()); out != fmt.Sprint(size) {
				t.Errorf("%s: %q bytes came through", way, out)
			}
			if took, want := time.Since(begin), least(tt.bits); took < want {
				t.Errorf("%s: %d bytes took %v, want at least %v", way, size, took, want)
			}
		}
		if err := server.Wait(); err != nil {
			t.Error(err)
		}
	})
}
