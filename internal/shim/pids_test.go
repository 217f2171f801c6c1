package shim

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	tasktypes "github.com/containerd/containerd/api/types/task"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"dougong.dev/dougong/internal/sandbox"
	"dougong.dev/dougong/internal/standin"
)

// freePIDs are process ids that are not in use.
func freePIDs(t *testing.T, n int) []int {
	t.Helper()
	var free []int
	for pid := 31000; pid > 20000 && len(free) < n; pid-- {
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			free = append(free, pid)
		}
	}
	return free
}

func info(pid int, args string) *tasktypes.ProcessInfo {
	return &tasktypes.ProcessInfo{Pid: uint32(pid), Info: &anypb.Any{Value: []byte(`{"user":{"uid":12,"gid":34},"args":[` + args + `]}`)}}
}

func TestProcessesAreShownUnderTheirIDs(t *testing.T) {
	needRoot(t)
	s, c := &Service{}, &sandbox.Container{ID: "c", Bundle: t.TempDir()}
	init, err := standin.Spec{Root: "/"}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer init.Kill()
	l := newLife("c", init)
	pids := freePIDs(t, 2)
	// The first process has a stand-in, and the second's id is taken.
	s.show(c, l, []*tasktypes.ProcessInfo{info(init.PID(), `"init"`), info(os.Getpid(), `"taken"`), info(pids[0], `"sleep","7"`), info(pids[1], "")})
	if got := fileOf(t, pids[0], "cmdline"); got != "sleep\x007\x00" {
		t.Errorf("process %d has the arguments %q", pids[0], got)
	}
	if got := fileOf(t, pids[0], "status"); !strings.Contains(got, "Uid:\t12\t") {
		t.Errorf("process %d has another user:\n%s", pids[0], got)
	}
	if len(l.shown) != 2 {
		t.Errorf("%d processes are shown, want 2", len(l.shown))
	}
	// Those of the last time go.
	s.show(c, l, []*tasktypes.ProcessInfo{info(pids[1], `"other"`)})
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pids[0])); err == nil || len(l.shown) != 1 {
		t.Errorf("a process that has ended is still shown; %d are", len(l.shown))
	}
	l.hide()
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pids[1])); err == nil || len(l.shown) != 0 {
		t.Error("processes are shown after the end")
	}
}

func TestDescriptionThatMakesNoSense(t *testing.T) {
	if p := described(&anypb.Any{Value: []byte("{")}); len(p.Args) != 0 {
		t.Errorf("got %+v", p)
	}
	if p := described(nil); len(p.Args) != 0 {
		t.Errorf("got %+v", p)
	}
}
