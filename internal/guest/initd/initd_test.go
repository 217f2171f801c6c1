package initd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/guest/stamp"
)

// The test binary plays other parts by its first argument: pid1 runs
// runAgent, which starts it once more as the agent; what that does is in a
// file of the working directory, since its environment is fixed.
const (
	argPID1       = "pid1"
	argParent     = "parent"
	fileBehaviour = "behaviour"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case argPID1:
			pid1()
		case AgentArg:
			actAsAgent()
		case argParent:
			// Leaves a child behind, as an orphan.
			child := exec.Command("true")
			if err := child.Start(); err != nil {
				os.Exit(1)
			}
			fmt.Println(child.Process.Pid)
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func pid1() {
	// Orphans come to us as they come to the real one.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ended:", runAgent(stamp.List{{Step: "kernel", Microseconds: 5}}))
	os.Exit(0)
}

func actAsAgent() {
	behaviour, _ := os.ReadFile(fileBehaviour)
	switch string(behaviour) {
	case "fail":
		os.Exit(7)
	case "die":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "environment":
		fmt.Println(os.Environ())
	case "orphan":
		os.Exit(leaveOrphan())
	}
	os.Exit(0)
}

// leaveOrphan returns 0 when the orphan was reaped while the agent runs.
func leaveOrphan() int {
	out, err := exec.Command("/proc/self/exe", argParent).Output()
	var pid int
	if _, scanErr := fmt.Sscan(string(out), &pid); err != nil || scanErr != nil {
		return 2
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return 0
		}
		time.Sleep(time.Millisecond)
	}
	return 3
}

func TestRunAgent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for behaviour, want := range map[string]string{
		"succeed":     "ended: <nil>",
		"fail":        "ended: exit status 7",
		"die":         "ended: killed by killed",
		"orphan":      "ended: <nil>",
		"environment": "[PATH=/usr/bin:/bin HOME=/root GOGC=100 GODEBUG=asyncpreemptoff=1 DOUGONG_BOOT=kernel:5]\nended: <nil>",
	} {
		t.Run(behaviour, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, fileBehaviour), behaviour)
			cmd := exec.Command(self, argPID1)
			cmd.Dir = dir
			out, err := cmd.Output()
			if got := string(bytes.TrimSpace(out)); err != nil || got != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		})
	}
}

func TestSelectModules(t *testing.T) {
	const list = "/a.ko\n\n/blk.ko 1001 1042\n/net.ko 1041\n/llc.ko demand:bridge\n/bridge.ko demand:bridge\n/z.ko\n"
	for name, c := range map[string]struct {
		plugged []string
		all     bool
		want    []string
	}{
		"nothing plugged":   {nil, false, []string{"/a.ko", "/z.ko"}},
		"disk":              {[]string{"1042", "1043"}, false, []string{"/a.ko", "/blk.ko", "/z.ko"}},
		"disk and network":  {[]string{"1001", "1041"}, false, []string{"/a.ko", "/blk.ko", "/net.ko", "/z.ko"}},
		"something unknown": {[]string{"29c0"}, false, []string{"/a.ko", "/z.ko"}},
		"all":               {nil, true, []string{"/a.ko", "/blk.ko", "/net.ko", "/z.ko"}},
		"demanded":          {[]string{"demand:bridge"}, false, []string{"/a.ko", "/llc.ko", "/bridge.ko", "/z.ko"}},
	} {
		t.Run(name, func(t *testing.T) {
			plugged := map[string]bool{}
			for _, id := range c.plugged {
				plugged[id] = true
			}
			if diff := cmp.Diff(c.want, selectModules(list, plugged, c.all)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOnlyDemanded(t *testing.T) {
	if got := onlyDemanded("/a.ko\n/llc.ko demand:bridge\n/net.ko 1041\n"); got != "/llc.ko demand:bridge\n" {
		t.Errorf("got %q", got)
	}
}

func TestPluggedDevices(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "0000:00:01.0", "device"), "0x1043\n")
	write(t, filepath.Join(dir, "0000:00:02.0", "device"), "0x1042\n")
	got, err := pluggedDevices(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"1043": true, "1042": true}, got); diff != "" {
		t.Error(diff)
	}
	if got, err := pluggedDevices(filepath.Join(dir, "none")); err != nil || len(got) != 0 {
		t.Errorf("without PCI: %v, %v", got, err)
	}
}

func TestLoadModules(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "modules")
	if err := loadModules(list, dir); err != nil {
		t.Errorf("a kernel without modules: %v", err)
	}
	write(t, list, filepath.Join(dir, "none.ko")+"\n")
	if err := loadModules(list, dir); err == nil || !strings.Contains(err.Error(), "none.ko") {
		t.Errorf("got %v, want an error that names the module", err)
	}
	write(t, list, filepath.Join(dir, "none.ko")+" 1041\n")
	if err := loadModules(list, dir); err != nil {
		t.Errorf("a module that nothing here needs: %v", err)
	}
}

func TestEnableControllers(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "cgroup.controllers"), "cpu memory pids\n")
	if err := enableControllers(root); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "cgroup.subtree_control"))
	if err != nil || strings.TrimSpace(string(got)) != "+cpu +memory +pids" {
		t.Errorf("enabled %q, %v", got, err)
	}
	if err := enableControllers(filepath.Join(root, "none")); err == nil {
		t.Error("no cgroup file system, and no error")
	}
}

// write makes a file with its directories.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDeviceLinks(t *testing.T) {
	dir := t.TempDir()
	if err := linkDevices(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if got, err := os.Readlink(filepath.Join(dir, name)); got != want {
			t.Errorf("%s leads to %q, %v", name, got, err)
		}
	}
}
