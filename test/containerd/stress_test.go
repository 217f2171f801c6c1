package containerd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// long makes tests as long as the promises; otherwise they are a sample.
var long = os.Getenv("DOUGONG_LONG") != ""

func TestManyAtATime(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		n := 6
		if long {
			n = 30
		}
		results := make([]result, n)
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() { results[i] = d.patient(t, runArgs(fmt.Sprint("par", i), []string{"--rm"}, "echo", "hi")...) })
		}
		wg.Wait()
		if i := slices.IndexFunc(results, func(r result) bool { return r.out != "hi\n" || r.code != 0 }); i >= 0 {
			t.Errorf("run %d of %d gives %+v", i, n, results[i])
		}
	})
}

// host counts what a container could leave behind anywhere on the host.
type host struct{ processes, mounts, taps, cgroups int }

func countHost(t *testing.T) host {
	t.Helper()
	procs, _ := filepath.Glob("/proc/[0-9]*")
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	links, _ := os.ReadDir("/sys/class/net")
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/*/*")
	return host{len(procs), bytes.Count(mounts, []byte("\n")), len(links), len(groups)}
}

func TestManyInARow(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		n := 5
		if long {
			n = 200
		}
		d.run(t, "first", nil, "true")
		d.checkLeaks(t)
		before, fds := countHost(t), openFiles(d.cmd.Process.Pid)
		for i := range n {
			if r := d.patient(t, runArgs(fmt.Sprint("row", i), []string{"--rm"}, "echo", "hi")...); r.out != "hi\n" {
				t.Fatalf("run %d gives %+v", i, r)
			}
		}
		d.checkLeaks(t)
		after := countHost(t)
		if after.mounts != before.mounts || after.taps != before.taps || after.cgroups != before.cgroups {
			t.Errorf("%d cycles make of %+v on the host %+v", n, before, after)
		}
		if more := openFiles(d.cmd.Process.Pid) - fds; more > n/4+8 {
			t.Errorf("%d cycles leave %d descriptors open in containerd", n, more)
		}
	})
}

func openFiles(pid int) int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(entries)
}

// shim is what a sandbox process has.
type shim struct{ files, threads, goroutines, pssKB int }

var (
	goroutine = regexp.MustCompile(`goroutine \d+ `)
	pss       = regexp.MustCompile(`(?m)^Pss: +(\d+) kB`)
	threads   = regexp.MustCompile(`(?m)^Threads:\t(\d+)`)
)

// measureShim looks at the one sandbox process that there is.
func (d *daemon) measureShim(t *testing.T) shim {
	t.Helper()
	pids := d.processes("containerd-shim-dougong-v2")
	if len(pids) != 1 {
		t.Fatalf("sandbox processes: %v", pids)
	}
	number := func(file string, e *regexp.Regexp) int {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pids[0], file))
		found := e.FindSubmatch(data)
		if err != nil || found == nil {
			t.Fatalf("%s: %v", file, err)
		}
		n, _ := strconv.Atoi(string(found[1]))
		return n
	}
	return shim{
		files: openFiles(pids[0]), threads: number("status", threads), pssKB: number("smaps_rollup", pss),
		goroutines: d.goroutines(t, pids[0]),
	}
}

// goroutines counts those that a sandbox process dumps into containerd's log.
func (d *daemon) goroutines(t *testing.T, pid int) int {
	t.Helper()
	path := filepath.Join(d.dir, "log")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	n := 0
	eventually(t, "the dump", func() bool {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data[info.Size():])) {
			if strings.Contains(line, "stacks of all goroutines") {
				n = len(goroutine.FindAllString(line, -1))
			}
		}
		return n > 0
	})
	return n
}

// A sandbox process does not grow with what is done in it.
func TestShimDoesNotGrow(t *testing.T) {
	each(t, func(t *testing.T, d *daemon) {
		n := 10
		if long {
			n = 200
		}
		d.detach(t, "grow", nil, "sleep", "100000")
		work := func(n int) {
			for i := range n {
				if out := d.ok(t, "task", "exec", "--exec-id", fmt.Sprint("e", i), "grow", "echo", "hi"); out != "hi\n" {
					t.Fatalf("exec %d gives %q", i, out)
				}
				d.ok(t, "task", "ps", "grow")
				d.ok(t, "task", "metrics", "grow")
			}
		}
		work(5)
		before := d.measureShim(t)
		work(n)
		after := d.measureShim(t)
		t.Logf("before %+v, after %d rounds %+v", before, n, after)
		if after.files > before.files+4 || after.goroutines > before.goroutines+8 || after.threads > before.threads+6 || after.pssKB > before.pssKB+4096 {
			t.Errorf("%d rounds make of %+v %+v", n, before, after)
		}
		if after.pssKB > 20_000 {
			t.Errorf("the sandbox process has %d kB", after.pssKB)
		}
	})
}
