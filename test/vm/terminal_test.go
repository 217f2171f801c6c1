package vm

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// terminal is a terminal with a dougong command in it.
type terminal struct {
	t *testing.T
	// user is our side, tty the side of the command.
	user, tty *os.File
	cmd       *exec.Cmd
	before    *unix.Termios

	mu     sync.Mutex
	output bytes.Buffer
}

// inTerminal starts a command in a terminal of 30 rows and 100 columns.
func (in *installation) inTerminal(args ...string) *terminal {
	in.t.Helper()
	user, tty, err := pty.Open()
	if err != nil {
		in.t.Fatal(err)
	}
	x := &terminal{t: in.t, user: user, tty: tty, cmd: in.command(args...)}
	in.t.Cleanup(func() { _, _ = user.Close(), tty.Close() })
	x.resize(30, 100)
	x.before = x.mode()
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = tty, tty, tty
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	go x.read()
	return x
}

func (x *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := x.user.Read(buf)
		x.mu.Lock()
		x.output.Write(buf[:n])
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (x *terminal) seen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.output.String()
}

func (x *terminal) send(s string) {
	x.t.Helper()
	if _, err := x.user.WriteString(s); err != nil {
		x.t.Fatal(err)
	}
}

// expect waits for text that appears after what was expected before.
func (x *terminal) expect(text string) {
	x.t.Helper()
	eventually(x.t, "text in the terminal: "+text, func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		i := bytes.Index(x.output.Bytes(), []byte(text))
		if i >= 0 {
			x.output.Next(i + len(text))
		}
		return i >= 0
	})
}

func (x *terminal) resize(rows, columns uint16) {
	x.t.Helper()
	if err := pty.Setsize(x.user, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) mode() *unix.Termios {
	x.t.Helper()
	mode, err := unix.IoctlGetTermios(int(x.tty.Fd()), unix.TCGETS)
	if err != nil {
		x.t.Fatal(err)
	}
	return mode
}

// wantEnd checks the exit code, and that the terminal is as it was.
func (x *terminal) wantEnd(code int) {
	x.t.Helper()
	_ = x.cmd.Wait()
	if got := x.cmd.ProcessState.ExitCode(); got != code {
		x.t.Errorf("exit code %d, want %d; on the terminal:\n%s", got, code, x.seen())
	}
	if diff := cmp.Diff(x.before, x.mode()); diff != "" {
		x.t.Errorf("the terminal was not restored (-before +after):\n%s", diff)
	}
}

func TestTerminal(t *testing.T) {
	in := install(t)
	x := in.inTerminal("run", "-it", "--rm", "--name", "box", busybox())
	x.expect("# ")
	if x.mode().Lflag&unix.ECHO != 0 {
		t.Error("the terminal is not raw, so each letter is shown twice")
	}
	x.send("stty size\r")
	x.expect("stty size\r\n30 100\r\n")
	x.send("echo $TERM; test -t 0 && test -t 1 && test -t 2 && echo all-ttys\r")
	x.expect("\nxterm")
	x.expect("all-ttys\r\n")
	t.Run("resize", func(t *testing.T) {
		x.send("trap 'stty size' WINCH; echo trap''ped\r")
		x.expect("trapped\r\n")
		x.resize(41, 133)
		eventually(t, "the new size in the guest", func() bool {
			return strings.Contains(in.must("exec", "box", "stty", "-F", "/dev/console", "size")+in.must("exec", "box", "sh", "-c", "stty size < /proc/1/fd/0"), "41 133")
		})
	})
	t.Run("interrupt", func(t *testing.T) {
		x.send("trap - WINCH; sleep 1000\r")
		eventually(t, "a process to interrupt", func() bool { return strings.Contains(in.must("exec", "box", "ps"), "sleep 1000") })
		x.send("\x03")
		x.expect("# ")
		x.send("echo status=$?\r")
		x.expect("status=130\r\n")
	})
	t.Run("exec", func(t *testing.T) {
		y := in.inTerminal("exec", "-it", "box", "sh", "-c", "stty size; echo erro''r >&2; read x; echo \"got $x\"; exit 6")
		y.expect("30 100\r\n")
		y.expect("error\r\n")
		y.send("line\r")
		y.expect("got line\r\n")
		y.wantEnd(6)
	})
	x.send("exit 4\r")
	x.wantEnd(4)
}

// TestTerminalRestored ends a container in a terminal by force.
func TestTerminalRestored(t *testing.T) {
	for name, end := range map[string]func(in *installation){
		"container is killed":       func(in *installation) { in.must("kill", "box") },
		"container is removed":      func(in *installation) { in.must("rm", "-f", "box") },
		"virtual machine is killed": func(in *installation) { in.kill("qemu") },
	} {
		t.Run(name, func(t *testing.T) {
			in := install(t)
			x := in.inTerminal("run", "-it", "--rm", "--name", "box", busybox(), "sh", "-c", "echo ready; sleep 1000")
			x.expect("ready")
			end(in)
			x.wantEnd(137)
		})
	}
}

// TestInterruptWhileBooting is Ctrl-C before there is anything to forward it to.
func TestInterruptWhileBooting(t *testing.T) {
	in := install(t)
	x := in.inTerminal("run", "-it", "--rm", busybox())
	eventually(t, "a virtual machine", func() bool { return len(in.find("qemu")) == 1 })
	x.send("\x03")
	_ = x.cmd.Wait()
	if x.cmd.ProcessState.Success() {
		t.Error("an interrupted start counts as success")
	}
	if diff := cmp.Diff(x.before, x.mode()); diff != "" {
		t.Errorf("the terminal was not restored (-before +after):\n%s", diff)
	}
	eventually(t, "the end of the interrupted start", func() bool { return len(processesOf(in.dir)) == 0 })
	in.must("ps")
}
