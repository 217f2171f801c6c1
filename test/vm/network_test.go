package vm

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// freePorts finds ports of the loopback that nobody uses: one that is free
// for both protocols.
func freePort(t *testing.T) int {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp4", l.Addr().String())
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// TestPublishedPorts reaches servers in the guest from the host.
func TestPublishedPorts(t *testing.T) {
	in := install(t)
	fixed := freePort(t)
	const script = `echo -n "hello from the guest" > /tmp/index.html; httpd -p 80 -h /tmp; echo ready; exec sleep 10000`
	in.must("run", "-d", "--name", "web", "-p", fmt.Sprintf("127.0.0.1:%d:80", fixed), "-p", "127.0.0.1::80",
		"-p", fmt.Sprintf("127.0.0.1:%d:69/udp", fixed), "-v", in.static("udpecho")+":/bin/udpecho:ro", busybox(), "sh", "-c", script)
	in.must("exec", "-d", "web", "/bin/udpecho", ":69")
	c := in.inspect("web")
	if len(c.Ports) != 3 {
		t.Fatalf("ports %q", c.Ports)
	}
	eventually(t, "servers", func() bool { return in.must("logs", "web") == "ready" })
	for _, p := range c.Ports[:2] {
		// 127.0.0.1:8080->80/tcp
		address, _, _ := strings.Cut(p, "->")
		if body := get(t, "http://"+address+"/index.html"); body != "hello from the guest" {
			t.Errorf("%s answers %q", p, body)
		}
	}
	if got := echoUDP(t, fixed); got != "ping" {
		t.Errorf("echo of UDP: %q", got)
	}
	in.dougong("run", "--rm", "-p", fmt.Sprintf("127.0.0.1:%d:80", fixed), busybox(), "true").wantError(t, 125, strconv.Itoa(fixed), "in use")
	in.must("rm", "-f", "web")
	// The port is free again.
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", fixed))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}

// echoUDP sends a packet until it comes back: packets may be lost.
func echoUDP(t *testing.T, port int) string {
	t.Helper()
	c, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 100)
	for range 20 {
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := c.Read(buf); err == nil {
			return string(buf[:n])
		}
	}
	return ""
}

// TestOutbound reaches a server on the host's loopback from the guest, where
// it has the address of the gateway.
func TestOutbound(t *testing.T) {
	in := install(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "hello from the host")
	}), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	url := fmt.Sprintf("http://10.0.2.2:%d/", l.Addr().(*net.TCPAddr).Port)
	if out := in.must("run", "--rm", busybox(), "wget", "-q", "-O", "-", url); out != "hello from the host" {
		t.Errorf("output %q", out)
	}
}

// static builds a program below testdata for the guest.
func (in *installation) static(name string) (path string) {
	in.t.Helper()
	path = in.path(name)
	cmd := exec.Command("go", "build", "-o", path, "./testdata/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		in.t.Fatalf("build %s: %v: %s", name, err, out)
	}
	return path
}
