package oci

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// emulator is the program that the container's VMM runs.
func (c *container) emulator() string {
	c.t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range entries {
		if line, err := os.ReadFile(e); err != nil || !strings.Contains(string(line), "\x00guest="+c.id+"\x00") {
			continue
		}
		program, err := os.Readlink(filepath.Join(filepath.Dir(e), "exe"))
		if err != nil {
			c.t.Fatal(err)
		}
		return program
	}
	c.t.Fatal("there is no VMM")
	return ""
}

// newServer puts the other end of a namespace's interface into a namespace of
// its own, at 10.6.0.1, and listens there. All ends with the test.
func newServer(t *testing.T, path string) net.Listener {
	t.Helper()
	type result struct {
		net.Listener
		error
	}
	made := make(chan result)
	go func() {
		// The thread is in another namespace from here on, and is not given back; what
		// it has started before ends with it.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			own := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
			inNetns(t, path, fmt.Sprintf("ip link set peer0 netns %d", unix.Gettid()))
			inNetns(t, own, "ip addr add 10.6.0.1/24 dev peer0; ip link set peer0 up")
		}
		l, lerr := net.Listen("tcp", "10.6.0.1:7001")
		made <- result{l, errors.Join(err, lerr)}
		<-t.Context().Done()
	}()
	r := <-made
	if r.error != nil {
		t.Fatal(r.error)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// TestCopiedNetwork has much pass both ways between a network and a machine
// that is a copy of its template's VMM: the copy and its tap must agree about how
// frames look.
func TestCopiedNetwork(t *testing.T) {
	path := newNetns(t)
	server := newServer(t, path)
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			// What comes is sent back, once all of it is there.
			echoed := make(chan error, 1)
			go func() {
				conn, err := server.Accept()
				if err != nil {
					echoed <- err
					return
				}
				defer conn.Close()
				got, err := io.ReadAll(conn)
				if err == nil {
					_, err = conn.Write(got)
				}
				echoed <- err
			}()
			c := newContainer(t, `cd /dev/shm; dd if=/dev/urandom of=f bs=1M count=8 2>/dev/null
nc 10.6.0.1 7001 <f >g; cmp f g && wc -c <g; sleep 1000`)
			c.id += "-copied"
			c.join(path)
			c.create(nil)
			if program := c.emulator(); !strings.HasPrefix(program, "/memfd:thaw") {
				t.Errorf("the VMM runs %s", program)
			}
			c.run("start", c.id)
			if err := <-echoed; err != nil {
				t.Error(err)
			}
			c.out.until(t, "8388608\n")
			c.run("kill", c.id, "KILL")
			reap(t, pid(t, c.pidFile()))
			c.run("delete", c.id)
		})
	}
}
