package standin

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// leave starts a stand-in with a line.
func leave(t *testing.T, s Spec, terminal *os.File) *Left {
	t.Helper()
	needRoot(t)
	s.Root = t.TempDir()
	left, err := s.Leave("/proc/self/exe", terminal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(left.Kill)
	return left
}

// signalled reads the next signal from a line.
func signalled(t *testing.T, l *Left) unix.Signal {
	t.Helper()
	fd := int(l.Line.Fd())
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000); n != 1 {
		t.Fatalf("no signal comes: %v", err)
	}
	number := make([]byte, 1)
	if _, err := l.Line.Read(number); err != nil {
		t.Fatal(err)
	}
	return unix.Signal(number[0])
}

func TestLeftHandsSignalsOnAndEndsAsTold(t *testing.T) {
	l := leave(t, Spec{Args: []string{"sleep"}, Net: NewNet, UID: 1234, GID: 2345}, nil)
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGHUP} {
		if err := unix.Kill(l.PID(), s); err != nil {
			t.Fatal(err)
		}
		if got := signalled(t, l); got != s {
			t.Errorf("the line tells of %v, want %v", got, s)
		}
	}
	if _, err := l.Line.Write([]byte{42}); err != nil {
		t.Fatal(err)
	}
	l.Wait()
	if got := l.cmd.ProcessState.ExitCode(); got != 42 {
		t.Errorf("it ends with %d", got)
	}
}

func TestLeftDiesWithItsLine(t *testing.T) {
	l := leave(t, Spec{}, nil)
	_ = l.Line.Close()
	l.Wait()
	if ws, ok := l.cmd.ProcessState.Sys().(interface{ Signal() unix.Signal }); !ok || ws.Signal() != unix.SIGKILL {
		t.Errorf("it ends with %v", l.cmd.ProcessState)
	}
}

func TestLeftLeadsTheSessionOfItsTerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := leave(t, Spec{}, slave)
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 20}); err != nil {
		t.Fatal(err)
	}
	if got := signalled(t, l); got != unix.SIGWINCH {
		t.Errorf("another size gives %v", got)
	}
	slave.Close()
	master.Close()
	if got := signalled(t, l); got != unix.SIGHUP {
		t.Errorf("the end of the terminal gives %v", got)
	}
}

func TestLeaveErrors(t *testing.T) {
	needRoot(t)
	for name, s := range map[string]Spec{"root": {Root: "/no/such/root"}, "net": {Root: "/", Net: "/no/such/net"}} {
		begin := time.Now()
		if l, err := s.Leave("/proc/self/exe", nil); err == nil {
			l.Kill()
			t.Errorf("%s: no error", name)
		}
		if time.Since(begin) > startTimeout {
			t.Errorf("%s: the error comes late", name)
		}
	}
	if _, err := (Spec{Root: "/"}).Leave("/no/such/program", nil); err == nil {
		t.Error("a program that is not there gives no error")
	}
}
