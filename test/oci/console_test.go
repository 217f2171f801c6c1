package oci

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// console waits for a terminal that is sent to a socket.
type console struct {
	path   string
	master chan *os.File
}

func newConsole(t *testing.T) *console {
	t.Helper()
	c := &console{path: filepath.Join(t.TempDir(), "console.sock"), master: make(chan *os.File, 1)}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: c.path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		defer close(c.master)
		conn, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		name, rights := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := conn.ReadMsgUnix(name, rights)
		if err != nil {
			return
		}
		messages, err := unix.ParseSocketControlMessage(rights[:n])
		if err != nil || len(messages) != 1 {
			return
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return
		}
		_ = unix.SetNonblock(fds[0], true)
		c.master <- os.NewFile(uintptr(fds[0]), "terminal")
	}()
	return c
}

// take returns the terminal as a stream.
func (c *console) take(t *testing.T) *stream {
	t.Helper()
	select {
	case f := <-c.master:
		if f == nil {
			t.Fatal("what came to the socket is no terminal")
		}
		t.Cleanup(func() { f.Close() })
		return &stream{f, f}
	case <-time.After(patience):
		t.Fatal("no terminal comes")
	}
	return nil
}

// resize sets the size of a terminal.
func resize(t *testing.T, f *os.File, rows, columns uint16) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

// TestTerminal sends a terminal away, whose text, size, signals and end are
// those of the container's.
func TestTerminal(t *testing.T) {
	c := newContainer(t, `trap 'stty size' WINCH; tty; stty size; while read -r line; do echo "got $line"; done; exit 4`)
	c.process()["terminal"] = true
	socket := newConsole(t)
	c.create(nil, "--console-socket", socket.path)
	terminal := socket.take(t)
	resize(t, terminal.writer, 33, 77)
	c.run("start", c.id)
	terminal.until(t, "33 77\r\n")
	if _, err := terminal.writer.WriteString("hello\r"); err != nil {
		t.Fatal(err)
	}
	// The echo comes first.
	if got := terminal.until(t, "got hello\r\n"); !strings.Contains(got, "hello\r\ngot hello") {
		t.Errorf("terminal shows %q", got)
	}
	resize(t, terminal.writer, 44, 88)
	if _, err := terminal.writer.WriteString("again\r"); err != nil {
		t.Fatal(err)
	}
	terminal.until(t, "44 88\r\n")
	// Control-D.
	if _, err := terminal.writer.WriteString("\x04"); err != nil {
		t.Fatal(err)
	}
	if status := reap(t, pid(t, c.pidFile())); status.ExitStatus() != 4 {
		t.Errorf("the process ended with %v", status)
	}
}

// TestTerminalHangsUp closes the terminal, which ends a shell in it.
func TestTerminalHangsUp(t *testing.T) {
	c := newContainer(t, `echo ready; sleep 1000`)
	c.process()["terminal"] = true
	c.process()["args"] = []string{"sh", "-c", `trap 'exit 9' HUP; echo ready; while :; do sleep 1000 & wait $!; done`}
	socket := newConsole(t)
	c.create(nil, "--console-socket", socket.path)
	terminal := socket.take(t)
	c.run("start", c.id)
	terminal.until(t, "ready\r\n")
	_ = terminal.reader.Close()
	if status := reap(t, pid(t, c.pidFile())); status.ExitStatus() != 9 {
		t.Errorf("the process ended with %v", status)
	}
}

// TestExecTerminal runs a process with a terminal of its own.
func TestExecTerminal(t *testing.T) {
	c := running(t)
	socket, pids := newConsole(t), filepath.Join(c.bundle, "exec.pid")
	c.run("exec", "--detach", "--tty", "--console-socket", socket.path, "--pid-file", pids, c.id, "sh", "-c", `read -r line; echo "got $line"; stty size; exit 6`)
	terminal := socket.take(t)
	resize(t, terminal.writer, 12, 34)
	if _, err := terminal.writer.WriteString("x\r"); err != nil {
		t.Fatal(err)
	}
	terminal.until(t, "got x\r\n12 34\r\n")
	if status := reap(t, pid(t, pids)); status.ExitStatus() != 6 {
		t.Errorf("the process ended with %v", status)
	}
}
