package child

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// parentEnv makes this binary a parent that starts a child and waits.
const parentEnv = "DOUGONG_TEST_PARENT"

func TestMain(m *testing.M) {
	if err := Leased(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(parentEnv) != "" {
		parent()
	}
	if os.Getenv(holderEnv) != "" {
		holder()
	}
	os.Exit(m.Run())
}

// parent starts a child, tells its process id and stays until it is killed.
func parent() {
	p, err := Start(exec.Command("sleep", "infinity"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(p.PID())
	<-p.Done()
}

const patience = 20 * time.Second

// awaitEnd waits for the end of a process that need not be our child.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	if n != 1 {
		_ = unix.Kill(pid, unix.SIGKILL)
		t.Fatalf("process %d lives on: %v", pid, err)
	}
}

func TestChildDiesWithItsParent(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), parentEnv+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, 0); err != nil {
		t.Fatalf("child %d: %v", pid, err)
	}
	// Nothing in the parent gets a chance to clean up.
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	awaitEnd(t, pid)
}

// TestChildOutlivesItsThread starts a child from a thread that then ends. The
// kernel would kill the child with the thread that forked it.
func TestChildOutlivesItsThread(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	type started struct {
		p      *Process
		err    error
		thread int
	}
	result := make(chan started)
	go func() {
		// Never unlocked: the thread ends with this goroutine.
		runtime.LockOSThread()
		p, err := Start(cmd)
		result <- started{p, err, unix.Gettid()}
	}()
	s := <-result
	if s.err != nil {
		t.Fatal(s.err)
	}
	defer s.p.Kill()
	awaitThreadEnd(t, s.thread)
	if _, err := io.WriteString(in, "still here\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "still here\n" {
		t.Errorf("the child answered %q, %v", line, err)
	}
}

func awaitThreadEnd(t *testing.T, tid int) {
	t.Helper()
	// The main thread is never ended by the runtime, only parked.
	if tid == os.Getpid() {
		t.Skip("the goroutine ran on the main thread")
	}
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid)); errors.Is(err, fs.ErrNotExist) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("thread %d does not end", tid)
		}
	}
}

func TestEnd(t *testing.T) {
	tests := map[string]struct {
		script string
		want   func(error) bool
	}{
		"well":      {"exit 0", func(err error) bool { return err == nil }},
		"badly":     {"exit 3", func(err error) bool { return code(err) == 3 }},
		"by signal": {"kill -TERM $$", func(err error) bool { return code(err) == -1 && strings.Contains(err.Error(), "terminated") }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := Start(exec.Command("sh", "-c", tt.script))
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-p.Done():
			case <-time.After(patience):
				t.Fatal("its end is not noticed")
			}
			if !tt.want(p.Err()) {
				t.Errorf("it ended with %v", p.Err())
			}
		})
	}
}

func code(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return 0
}

func TestKill(t *testing.T) {
	p, err := Start(exec.Command("sleep", "infinity"))
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if err := unix.Kill(p.PID(), 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("after Kill the process answers %v, want %v: it must be reaped", err, unix.ESRCH)
	}
	if p.Err() == nil {
		t.Error("a killed process ended well")
	}
	p.Kill()
}

func TestStartKeepsWhatTheCallerAsks(t *testing.T) {
	cmd := exec.Command("sh", "-c", "ps -o sid= -p $$; echo $$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var out strings.Builder
	cmd.Stdout = &out
	p, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if f := strings.Fields(out.String()); p.Err() != nil || len(f) != 2 || f[0] != f[1] {
		t.Errorf("session and process are %q, %v, want them equal", out.String(), p.Err())
	}
}

func TestStartOfNothing(t *testing.T) {
	p, err := Start(exec.Command("/none/here"))
	if p != nil || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "start /none/here") {
		t.Errorf("Start gives %v, %v", p, err)
	}
}

// The bit is the child's and not this process's.
func TestStartSwitching(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs the right to change what a process keeps")
	}
	var out bytes.Buffer
	for _, run := range []struct {
		start func(*exec.Cmd) (*Process, error)
		want  bool
	}{{StartSwitching, true}, {Start, false}} {
		out.Reset()
		cmd := exec.Command("setpriv", "--dump")
		cmd.Stdout = &out
		p, err := run.start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		if got := strings.Contains(out.String(), "no_setuid_fixup"); p.Err() != nil || got != run.want {
			t.Errorf("%v: %s", p.Err(), out.String())
		}
	}
}
