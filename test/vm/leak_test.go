package vm

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// leakGrace is how long an ending may take after the command has returned.
// Only what the kernel does by itself may need it.
const leakGrace = 5 * time.Second

// leakCheck asserts that nothing of an installation is left: no process, no
// mount, no network device, no state.
func leakCheck(in *installation) {
	in.t.Helper()
	if left := settle(in, leakGrace); len(left) > 0 {
		in.t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
	}
	killAll(in.dir)
	for _, dir := range in.parents() {
		_ = os.Remove(dir)
	}
}

// settle gives what is left after at most the grace period.
func settle(in *installation, grace time.Duration) []string {
	deadline := time.Now().Add(grace)
	for {
		left := leftovers(in)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		<-time.After(20 * time.Millisecond)
	}
}

func leftovers(in *installation) []string {
	var left []string
	for _, p := range processesOf(in.dir) {
		left = append(left, fmt.Sprintf("process %d: %s", p.pid, p.command()))
	}
	left = append(left, mountsBelow("/proc/self/mountinfo", in.dir)...)
	left = append(left, networkDevices()...)
	left = append(left, in.cgroups()...)
	return append(left, stateFiles(in.state)...)
}

// mountsBelow lists the mounts of a process that concern dir.
func mountsBelow(mountinfo, dir string) []string {
	data, err := os.ReadFile(mountinfo)
	if err != nil {
		return nil
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, dir+"/state") {
			found = append(found, "mount: "+strings.TrimSpace(line))
		}
	}
	return found
}

// networkDevices lists taps and network namespaces that look like ours.
func networkDevices() []string {
	var found []string
	links, _ := net.Interfaces()
	for _, l := range links {
		if strings.HasPrefix(l.Name, "tap") || strings.HasPrefix(l.Name, "dougong") {
			found = append(found, "network device "+l.Name)
		}
	}
	spaces, _ := filepath.Glob("/run/netns/dougong*")
	return append(found, spaces...)
}

// stateFiles lists what is below a state directory but the empty directory
// of names.
func stateFiles(state string) []string {
	var found []string
	_ = filepath.WalkDir(state, func(path string, _ os.DirEntry, err error) error {
		if err == nil && path != state && path != filepath.Join(state, ".names") {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// process is a process of an installation.
type process struct {
	pid  int
	args []string
}

func (p process) command() string { return clip(strings.Join(p.args, " ")) }

// kind names the program: dougong, shim, qemu or virtiofsd.
func (p process) kind() string {
	name := ""
	if len(p.args) > 0 {
		name = filepath.Base(p.args[0])
	}
	switch {
	case strings.HasPrefix(name, "qemu"):
		return "qemu"
	case strings.HasPrefix(name, "containerd-shim"):
		return "shim"
	}
	return name
}

// processesOf finds the processes that have to do with dir: by their command
// line, working directory or open files. QEMU has its kernel open.
func processesOf(dir string) []process {
	entries, _ := filepath.Glob("/proc/[0-9]*")
	var found []process
	for _, proc := range entries {
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		if err != nil || len(line) == 0 {
			// Gone, or a zombie or kernel thread.
			continue
		}
		if bytes.Contains(line, []byte(dir+"/")) || refersTo(proc, dir) {
			found = append(found, process{pid, strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")})
		}
	}
	return found
}

func refersTo(proc, dir string) bool {
	fds, _ := filepath.Glob(filepath.Join(proc, "fd", "*"))
	for _, link := range append(fds, filepath.Join(proc, "cwd"), filepath.Join(proc, "root")) {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir+"/") {
			return true
		}
	}
	return false
}

// find returns the processes of one kind.
func (in *installation) find(kind string) []process {
	return slices.DeleteFunc(processesOf(in.dir), func(p process) bool { return p.kind() != kind })
}

// one returns the only process of a kind.
func (in *installation) one(kind string) process {
	in.t.Helper()
	all := in.find(kind)
	if len(all) != 1 {
		in.t.Fatalf("%d processes of kind %s, want 1: %v", len(all), kind, all)
	}
	return all[0]
}

// killAll ends what a failed test left, so that other tests do not suffer.
func killAll(dir string) {
	for _, p := range processesOf(dir) {
		if proc, err := os.FindProcess(p.pid); err == nil {
			_ = proc.Kill()
		}
	}
}

// openFiles counts the descriptors of a process.
func (p process) openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// status returns a field of /proc/PID/status.
func (p process) status(t *testing.T, field string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == field {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("process %d has no field %s", p.pid, field)
	return ""
}

// peakKiB is the largest resident set that the process ever had.
func (p process) peakKiB(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(p.status(t, "VmHWM"), " kB"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
