// Command standin takes the agent's place in tests of the guest image: as pid
// 1 it is the guest's own, as the agent it reports on the console what it
// finds, one "standin: KEY VALUE" a line, and ends. What it does beside that
// is on the kernel's command line, standin=WORD.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/guest/initd"
)

func main() {
	switch {
	case os.Getpid() == 1 && len(os.Args) == 2 && os.Args[1] == "contained":
		report("contained", "pid 1")
	case os.Getpid() == 1:
		fmt.Println(initd.Run())
	default:
		agent()
	}
}

// report writes to the console, in one write for each line.
func report(key string, value any) { fmt.Fprintf(os.Stdout, "standin: %s %v\n", key, value) }

func agent() {
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	report("ready", time.Duration(up.Nano()).Milliseconds())
	report("unused", unused())
	line, _ := os.ReadFile("/proc/cmdline")
	words := strings.Fields(string(line))
	switch {
	case slices.Contains(words, "standin=die"):
		os.Exit(3)
	case slices.Contains(words, "standin=look"):
		look()
	case slices.Contains(words, "standin=crun"):
		contain()
	}
	report("done", "-")
}

// unused is the memory that nothing has been put into yet, in kilobytes.
func unused() uint64 {
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info)
	return info.Freeram * uint64(info.Unit) >> 10
}

// look reports what initd has set up.
func look() {
	for key, path := range map[string]string{
		"release": "/proc/sys/kernel/osrelease", "modules": "/proc/modules", "mounts": "/proc/mounts",
		"controllers": "/sys/fs/cgroup/cgroup.subtree_control", "parent": "/proc/self/stat",
	} {
		data, err := os.ReadFile(path)
		if err != nil {
			report(key, err)
			continue
		}
		for line := range strings.Lines(string(data)) {
			report(key, strings.TrimSpace(line))
		}
	}
	ports, _ := filepath.Glob("/dev/vport*")
	report("ports", ports)
}

// contain runs a container with crun, several times, and reports how long it
// takes in milliseconds.
func contain() {
	const bundle, pidFile = "/run/bundle", "/run/pid"
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.MkdirAll(bundle+"/rootfs/proc", 0o755)
	}
	if err == nil {
		err = os.WriteFile(bundle+"/rootfs/standin", self, 0o755)
	}
	if err == nil {
		err = os.WriteFile(bundle+"/config.json", []byte(spec), 0o644)
	}
	if err != nil {
		report("error", err)
		return
	}
	for i := range 5 {
		id := fmt.Sprintf("c%d", i)
		timed("crun-version", "/usr/bin/crun", "--version")
		timed("crun-run", "/usr/bin/crun", "run", "--bundle", bundle, id)
		timed("crun-create", "/usr/bin/crun", "create", "--pid-file", pidFile, "--bundle", bundle, id)
		ended := follow(pidFile)
		report("crun-program", program(pidFile))
		timed("crun-start", "/usr/bin/crun", "start", id)
		// The container only begins to run now, and delete would kill it.
		ended()
		timed("crun-delete", "/usr/bin/crun", "delete", "--force", id)
	}
}

// program is what the process in pidFile runs, crun itself until its start.
func program(pidFile string) string {
	text, err := os.ReadFile(pidFile)
	if err == nil {
		var path string
		if path, err = os.Readlink("/proc/" + strings.TrimSpace(string(text)) + "/exe"); err == nil {
			return path
		}
	}
	return err.Error()
}

// follow returns a function that waits for the end of the process in pidFile.
func follow(pidFile string) (wait func()) {
	fd := -1
	text, err := os.ReadFile(pidFile)
	if err == nil {
		var pid int
		if pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			fd, err = unix.PidfdOpen(pid, 0)
		}
	}
	if err != nil {
		report("error", err)
		return func() {}
	}
	return func() {
		defer unix.Close(fd)
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if err == nil {
				return
			}
			if !errors.Is(err, unix.EINTR) {
				report("error", err)
				return
			}
		}
	}
}

func timed(key string, argv ...string) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stdout
	if strings.HasSuffix(key, "run") || strings.HasSuffix(key, "create") {
		cmd.Stdout = os.Stdout
	}
	start := time.Now()
	if err := cmd.Run(); err != nil {
		report("error", fmt.Sprintf("%s: %v", key, err))
		return
	}
	report(key, time.Since(start).Milliseconds())
}

// spec needs pivot_root, which crun does unless it is told otherwise.
const spec = `{"ociVersion":"1.0.0","process":{"user":{"uid":0,"gid":0},"args":["/standin","contained"],"cwd":"/","env":["PATH=/"]},
"root":{"path":"rootfs"},"mounts":[{"destination":"/proc","type":"proc","source":"proc"},
{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755"]}],
"linux":{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"},{"type":"cgroup"}]}}`
