package standin

import (
	"fmt"
	"os"
	"strings"
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
	if got := l.cmd.ProcessState.ExitCode(); got != killedStatus {
		t.Errorf("it ends with %v", got)
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

// TestLeftApart looks at what those see who join the namespaces of a stand-in.
func TestLeftApart(t *testing.T) {
	needRoot(t)
	root, data := t.TempDir(), t.TempDir()
	for _, dir := range []string{"proc", "etc"} {
		if err := os.Mkdir(root+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A place that leads out of the root directory must not.
	if err := os.Symlink("/../../../../etc", root+"/out"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(data+"/file", []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Spec{Args: []string{"sleep", "9"}, Root: root, Apart: true, Hostname: "box", Mounts: []Mount{
		{Source: data, Target: "/made/here", ReadOnly: true},
		{Source: data + "/file", Target: "/out/dougong-test-file"},
		{Source: "/no/such/source", Target: "/none"},
	}}
	l, err := s.Leave("/proc/self/exe", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Kill)
	in := fmt.Sprintf("/proc/%d/root/", l.PID())
	for name, want := range map[string]string{"made/here/file": "host", "etc/dougong-test-file": "host", "proc/1/cmdline": "sleep\x009\x00"} {
		if got, err := os.ReadFile(in + name); string(got) != want || err != nil {
			t.Errorf("%s has %q, %v, want %q", name, got, err, want)
		}
	}
	if err := os.WriteFile(in+"made/here/new", nil, 0o600); err == nil {
		t.Error("what is for reading only can be written to")
	}
	if err := os.WriteFile(in+"new", nil, 0o600); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("/etc/dougong-test-file"); err == nil {
		t.Error("a link has led to the host")
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", l.PID()))
	if err != nil || strings.Count(string(mounts), "\n") != 4 {
		t.Errorf("it sees the mounts\n%s%v", mounts, err)
	}
	apart(t, l.PID(), "cgroup", "ipc", "mnt", "pid", "uts")
	if got := hostname(t, l.PID()); got != "box" {
		t.Errorf("its host name is %q", got)
	}
	if err := unix.Kill(l.PID(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := signalled(t, l); got != unix.SIGTERM {
		t.Errorf("the line tells of %v", got)
	}
	if _, err := l.Line.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	l.Wait()
	if !l.cmd.ProcessState.Success() {
		t.Errorf("it ends with %v", l.cmd.ProcessState)
	}
}
