package docker

import (
	"strings"
	"testing"

	"dougong.dev/dougong/test/enclave"
)

// newNetwork makes a network of Docker's that ends with the test.
func newNetwork(t *testing.T, name, subnet string) {
	t.Helper()
	docker.Must(t, "network", "create", "--subnet", subnet, name)
	t.Cleanup(func() {
		if _, err := docker.Run("network", "rm", name); err != nil {
			t.Error(err)
		}
	})
}

const server = `echo hello >/tmp/index.html; echo ready; exec httpd -f -p 80 -h /tmp`

// askByTCP asks Docker's name server for the address of "web" over TCP, and prints
// the answer as hexadecimal digits: busybox's own programs ask over UDP alone.
const askByTCP = `printf '\000\025\000\007\001\000\000\001\000\000\000\000\000\000\003web\000\000\001\000\001' | nc -w 10 127.0.0.11 53 | hexdump -v -e '1/1 "%02x"'`

// TestPair has two containers as Compose makes them: one finds the other by its
// name, and by the name of its service.
func TestPair(t *testing.T) {
	newNetwork(t, "pair", "10.93.0.0/24")
	docker.Start(t, []string{"--name", "pair-web-1", "--network", "pair", "--network-alias", "web", "--publish", "8093:80"}, image, server)
	got := docker.Must(t, "run", "--rm", "--network", "pair", image, "sh", "-c",
		`cat /etc/resolv.conf; for name in web pair-web-1; do wget -q -O - http://$name/index.html; done; nslookup nobody.invalid 127.0.0.11 || echo none; `+askByTCP)
	if !strings.Contains(got, "nameserver 127.0.0.11") || strings.Count(got, "hello") != 2 || !strings.Contains(got, "none") {
		t.Errorf("the other container says %q", got)
	}
	// An address of four bytes: 10.93.0.2.
	if !strings.HasSuffix(got, "00040a5d0002") {
		t.Errorf("over TCP the name server says %q", got)
	}
	// From here it goes by the address of the bridge.
	enclave.Serves(t, "http://10.93.0.1:8093/index.html", "hello\n")
}

// TestNetworksThatComeLater connects a container that runs, and disconnects it.
func TestNetworksThatComeLater(t *testing.T) {
	newNetwork(t, "first", "10.94.0.0/24")
	newNetwork(t, "second", "10.95.0.0/24")
	id := docker.Start(t, []string{"--name", "both", "--network", "first"}, image, server)
	addresses := func() string {
		out, _ := docker.Run("exec", id, "sh", "-c", "ip -o -4 addr | awk '{print $4}'")
		return out
	}
	if got := addresses(); !strings.Contains(got, "10.94.0.") || strings.Contains(got, "10.95.0.") {
		t.Errorf("it has %q", got)
	}
	docker.Must(t, "network", "connect", "second", id)
	enclave.Await(t, "10.95.0.", addresses)
	if got := docker.Must(t, "run", "--rm", "--network", "second", image, "wget", "-q", "-O", "-", "http://both/index.html"); got != "hello" {
		t.Errorf("on the second network it says %q", got)
	}
	docker.Must(t, "network", "disconnect", "second", id)
	enclave.Eventually(t, "an address to go", func() (string, bool) { a := addresses(); return a, a != "" && !strings.Contains(a, "10.95.0.") })
}

// TestSharedNetwork has a container in the network, and so in the virtual
// machine, of another one.
func TestSharedNetwork(t *testing.T) {
	newNetwork(t, "shared", "10.96.0.0/24")
	id := docker.Start(t, []string{"--network", "shared"}, image, server)
	args := []string{"run", "--rm", "--network", "container:" + id, image, "wget", "-q", "-O", "-", "http://127.0.0.1/index.html"}
	if newDaemon() {
		// It would need a sandbox process that serves two of containerd's containers.
		docker.Fails(t, "does another sandbox use this network namespace?", args...)
		return
	}
	if got := docker.Must(t, args...); got != "hello" {
		t.Errorf("it says %q", got)
	}
}
