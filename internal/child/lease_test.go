package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// holderEnv makes this binary a process that starts a leased child, tells its
// process id and stays until it is killed.
const holderEnv = "DOUGONG_TEST_HOLDER"

func holder() {
	p, lease, err := StartLeased(exec.Command("/bin/sleep", "infinity"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(p.PID())
	<-p.Done()
	_ = lease.Close()
}

func leased(t *testing.T) (*Process, *os.File) {
	t.Helper()
	p, lease, err := StartLeased(exec.Command("/bin/sleep", "infinity"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p, lease
}

func awaitName(t *testing.T, pid int, want string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(name)) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is %q and not %s", pid, name, want)
		}
	}
}

func TestLeaseHoldsAProcess(t *testing.T) {
	p, lease := leased(t)
	awaitName(t, p.PID(), "sleep")
	if err := lease.Close(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if exit, ok := errors.AsType[*exec.ExitError](p.Err()); !ok || exit.String() != "signal: killed" {
		t.Errorf("Err = %v, want SIGKILL", p.Err())
	}
}

// A lease that is closed at once must not find the process between two states.
func TestLeaseGivenUpAtOnce(t *testing.T) {
	for range 20 {
		p, lease := leased(t)
		_ = lease.Close()
		select {
		case <-p.Done():
		case <-time.After(patience):
			t.Fatal("it lives without a lease")
		}
	}
}

func TestLeaseEndsWithItsHolder(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.Stderr = append(os.Environ(), holderEnv+"=1"), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	awaitEnd(t, pid)
}

func TestAdopted(t *testing.T) {
	p, lease := leased(t)
	awaitName(t, p.PID(), "sleep")
	pidfd, err := p.PIDFD()
	if err != nil {
		t.Fatal(err)
	}
	a := Adopt(p.PID(), pidfd, lease)
	select {
	case <-a.Done():
		t.Fatal("done while it runs")
	default:
	}
	a.Kill()
	a.Kill()
	if a.PID() != p.PID() || !errors.Is(a.Err(), ErrUnknownEnd) {
		t.Errorf("process %d: %v", a.PID(), a.Err())
	}
	<-p.Done()
	if _, err := lease.Write([]byte{0}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the lease is held on: %v", err)
	}
}

func TestLeasedProgramThatIsNotThere(t *testing.T) {
	cmd := exec.Command("/nonexistent/program")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	p, lease, err := StartLeased(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	<-p.Done()
	if !strings.Contains(stderr.String(), "start /nonexistent/program: no such file") || p.Err() == nil {
		t.Errorf("%q, %v", stderr.String(), p.Err())
	}
}
