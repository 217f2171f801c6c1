package child

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// freePID is a process id that is not in use.
func freePID(t *testing.T) int {
	t.Helper()
	for pid := 30000; pid > 20000; pid-- {
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return pid
		}
	}
	t.Fatal("no process id is free")
	return 0
}

func TestStartAs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may choose a process id")
	}
	out, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	want := freePID(t)
	p, err := StartAs(want, Program{
		Path: "/bin/sh", Args: []string{"name", "-c", `echo $$ $0 $GREETING >&3; readlink /proc/self/ns/net >&3`}, Env: []string{"GREETING=hello", "PATH=/bin:/usr/bin"},
		File: theirs, NewNet: true,
	})
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	fields := strings.Fields(string(said))
	own, _ := os.Readlink("/proc/self/ns/net")
	if p.PID() != want || p.Err() != nil || len(fields) != 4 || fields[1] != "name" || fields[2] != "hello" || fields[3] == own {
		t.Errorf("process %d says %q, %v; want %d in another network namespace than %s", p.PID(), said, p.Err(), want, own)
	}
}

func TestStartAsTaken(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may choose a process id")
	}
	p, err := StartAs(os.Getpid(), Program{Path: "/bin/true", Args: []string{"true"}, Env: []string{}, File: os.Stdin})
	if !errors.Is(err, unix.EEXIST) {
		t.Errorf("got %v, %v", p, err)
	}
}

func TestStartAsWithoutAProgram(t *testing.T) {
	p, err := StartAs(0, Program{Path: "/no/such/program", Args: []string{"x"}, File: os.Stdin})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if p.Err() == nil {
		t.Error("the end without a program is no error")
	}
}
