package vm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// poolStatus is what 'pool status --format json' tells.
type poolStatus struct {
	PID     int
	Waiting []struct {
		PID       int
		Kind      string
		MemoryMiB int
	}
	MemoryMiB                           int
	Hits, Misses, Made, Dropped, Failed int
	Trouble                             string
}

const (
	saysPooled = "machine of the pool running"
	saysMissed = "no machine of the pool is used"
)

// pooled is an installation with a pool of a size, whose keeper ends before it
// is looked what is left.
func pooled(t *testing.T, size int, settings ...string) *installation {
	t.Helper()
	in := install(t, append([]string{fmt.Sprintf("pool.size=%d", size)}, settings...)...)
	t.Cleanup(func() { in.must("pool", "stop") })
	return in
}

func (in *installation) pool() poolStatus {
	in.t.Helper()
	var s poolStatus
	if err := json.Unmarshal([]byte(in.must("pool", "status", "--format", "json")), &s); err != nil {
		in.t.Fatal(err)
	}
	return s
}

// fill fills the pool and returns its state.
func (in *installation) fill(flags ...string) poolStatus {
	in.t.Helper()
	in.must(append([]string{"pool", "fill"}, flags...)...)
	return in.pool()
}

// TestPool has containers of several forms run in machines that waited.
func TestPool(t *testing.T) {
	in := pooled(t, 1)
	if s := in.fill(); len(s.Waiting) != 1 || s.MemoryMiB < 20 || s.Made != 1 {
		t.Fatalf("after fill: %+v", s)
	}
	if out := in.must("pool", "status"); !strings.Contains(out, "1 of 1 machines wait") || !strings.Contains(out, "256 MiB") {
		t.Errorf("pool status:\n%s", out)
	}
	port := strconv.Itoa(freePort(t))
	in.must("run", "-d", "--name", "box", "--hostname", "here", "-p", "127.0.0.1:"+port+":80", "-e", "A=b", busybox(),
		"sh", "-c", "echo $A > /index.html; exec httpd -f -p 80 -h /")
	defer in.must("rm", "-f", "box")
	if !in.logSays(saysPooled) || in.logSays(saysClone) || in.logSays(saysBoot) {
		t.Error("it is not from the pool")
	}
	if out := in.must("exec", "box", "hostname"); out != "here" {
		t.Errorf("its name is %q", out)
	}
	eventually(t, "an answer by way of the forwarded port", func() bool {
		r, err := http.Get("http://127.0.0.1:" + port + "/")
		if err == nil {
			_ = r.Body.Close()
		}
		return err == nil && r.StatusCode == http.StatusOK
	})
	// A machine that nobody keeps ready is made as ever.
	if out := in.must("run", "--rm", "--memory", "200m", busybox(), "echo", "other"); out != "other" {
		t.Errorf("another kind of machine says %q", out)
	}
	in.must("run", "--rm", "--no-template", busybox(), "true")
	s := in.pool()
	if s.Hits != 1 || s.Misses != 1 {
		t.Errorf("counted: %+v", s)
	}
	in.must("pool", "stop")
	if out := in.must("exec", "box", "echo", "well"); out != "well" {
		t.Errorf("after the end of the pool the container says %q", out)
	}
	if s := in.pool(); s.PID != 0 || len(s.Waiting) != 0 {
		t.Errorf("after its end: %+v", s)
	}
	if n := len(in.find("qemu")); n != 1 {
		t.Errorf("%d QEMUs, want the container's alone", n)
	}
}

// TestPoolTiming wants the phases of a start from the pool.
func TestPoolTiming(t *testing.T) {
	in := pooled(t, 1)
	in.fill()
	var order []string
	for _, p := range in.phases() {
		order = append(order, p.Name)
	}
	if list := " " + strings.Join(order, " ") + " "; !inOrder(list, strings.Fields("image process container claim outfit agent configure rootfs create start")) || slices.Contains(order, "template") {
		t.Errorf("phases%s", list)
	}
	in.fill()
	if r := in.dougong("run", "--rm", "--timing", busybox(), "true"); !strings.Contains(r.stderr, "pool start, ") {
		t.Error(r)
	}
}

// TestPoolStartsByItself has the first container start a keeper, and later ones
// find a machine.
func TestPoolStartsByItself(t *testing.T) {
	in := pooled(t, 1)
	in.must("run", "--rm", busybox(), "true")
	eventually(t, "a machine that waits", func() bool { return len(in.pool().Waiting) == 1 })
	if log := in.sandboxLog(); !strings.Contains(log, saysPooled) {
		t.Errorf("log:\n%s", log)
	}
}

// rehearsedScript shows what a rehearsal could have left in the guest.
const rehearsedScript = `
ls -d /sys/fs/cgroup/* | wc -l
cut -d ' ' -f 2,3 /proc/mounts
ls /dev /proc/sys/net/ipv4/conf
cat /etc/passwd; ls -a / /tmp /run
`

// TestNothingOfTheRehearsal compares a machine that waited with a clone.
func TestNothingOfTheRehearsal(t *testing.T) {
	in := pooled(t, 1)
	in.fill()
	run := []string{"run", "--rm", "--privileged", busybox(), "sh", "-c", rehearsedScript}
	fromPool := in.must(run...)
	if s := in.pool(); s.Hits != 1 {
		t.Fatalf("not from the pool: %+v", s)
	}
	in.must("pool", "stop")
	in.configure()
	if clone := in.must(run...); fromPool != clone {
		t.Errorf("from the pool:\n%s\na clone:\n%s", fromPool, clone)
	}
}

// TestPoolDiffers wants no two machines of a pool to share anything random.
func TestPoolDiffers(t *testing.T) {
	in := pooled(t, 3)
	n := 6
	if suite.long {
		n = 100
	}
	seen := map[string]int{}
	for i := range n {
		if i%3 == 0 {
			in.fill()
		}
		r := in.dougong("run", "--rm", busybox(), "sh", "-c", identityScript)
		now, f := time.Now().Unix(), facts(r.stdout)
		if r.code != 0 || len(f) != 6 {
			t.Fatal(r)
		}
		if at, err := strconv.ParseInt(f["time"], 10, 64); err != nil || at > now+2 || at < now-10 {
			t.Errorf("machine %d believes it is %s, and it is %d", i, f["time"], now)
		}
		delete(f, "time")
		for name, value := range f {
			if other, twice := seen[name+value]; twice {
				t.Errorf("machines %d and %d have the same %s: %s", other, i, name, value)
			}
			seen[name+value] = i
		}
	}
	if s := in.pool(); s.Hits != n {
		t.Errorf("%d of %d were from the pool", s.Hits, n)
	}
}

// TestPoolWithShare takes machines whose memory a file sharing daemon can use.
func TestPoolWithShare(t *testing.T) {
	in := pooled(t, 1)
	share := in.mkdir("share")
	in.writeFile("share/by-host", "host")
	run := []string{"run", "--rm", "-v", share + ":/share", busybox(), "sh", "-c", "cat /share/by-host; echo guest > /share/by-guest"}
	in.must(run...)
	eventually(t, "a machine that waits", func() bool { return len(in.pool().Waiting) == 1 })
	if out := in.must(run...); out != "host" {
		t.Errorf("the guest reads %q", out)
	}
	if data, err := os.ReadFile(filepath.Join(share, "by-guest")); err != nil || string(data) != "guest\n" {
		t.Errorf("the guest wrote %q, %v", data, err)
	}
	if s := in.pool(); s.Hits != 1 {
		t.Errorf("counted: %+v", s)
	}
}

// TestPoolWithoutDisks is for root file systems that are directories.
func TestPoolWithoutDisks(t *testing.T) {
	in := pooled(t, 1)
	root := in.mkdir("root")
	for _, dir := range []string{"bin", "proc", "dev", "etc"} {
		in.mkdir("root/" + dir)
	}
	if err := copyFile(filepath.Join(root, "bin/sh"), busyboxPath); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "bin/sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	run := []string{"run", "--rm", "dir:" + root, "/bin/sh", "-c", "echo well"}
	in.must(run...)
	eventually(t, "a machine that waits", func() bool { return len(in.pool().Waiting) == 1 })
	if out := in.must(run...); out != "well" {
		t.Errorf("the container says %q", out)
	}
	if s := in.pool(); s.Hits != 1 {
		t.Errorf("counted: %+v", s)
	}
}

// TestPoolManyAtOnce starts more than there are machines.
func TestPoolManyAtOnce(t *testing.T) {
	in := pooled(t, 2, `vm.boot_timeout="2m"`)
	in.fill()
	n := 6
	if suite.long {
		n = 20
	}
	results := make([]result, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { results[i] = in.dougong("run", "--rm", busybox(), "echo", fmt.Sprint("number ", i)) })
	}
	all.Wait()
	for i, r := range results {
		if r.code != 0 || r.stdout != fmt.Sprintf("number %d\n", i) {
			t.Error(r)
		}
	}
	if s := in.pool(); s.Hits < 2 || s.Hits+s.Misses != n {
		t.Errorf("counted: %+v", s)
	}
}

// TestPoolKill kills each of those who have to do with a pool.
func TestPoolKill(t *testing.T) {
	t.Run("keeper", func(t *testing.T) {
		in := pooled(t, 1)
		in.fill()
		in.must("run", "-d", "--name", "box", busybox(), "sleep", "1000")
		s := in.fill()
		_ = syscall.Kill(s.PID, syscall.SIGKILL)
		eventually(t, "the end of the machine that waited", func() bool { return len(in.find("qemu")) == 1 })
		if out := in.must("exec", "box", "echo", "well"); out != "well" {
			t.Errorf("a container whose machine was claimed says %q", out)
		}
		in.must("rm", "-f", "box")
		if left := stateFiles(in.state); len(left) != 0 {
			t.Errorf("the next command has left %q", left)
		}
		in.must("run", "--rm", busybox(), "true")
		eventually(t, "a new keeper", func() bool { return len(in.pool().Waiting) == 1 })
	})
	t.Run("machine that waits", func(t *testing.T) {
		in := pooled(t, 1)
		_ = syscall.Kill(in.fill().Waiting[0].PID, syscall.SIGKILL)
		in.must("run", "--rm", busybox(), "true")
		if s := in.fill(); len(s.Waiting) != 1 {
			t.Errorf("afterwards: %+v", s)
		}
	})
	t.Run("machine that stops answering", func(t *testing.T) {
		in := pooled(t, 1, `vm.boot_timeout="6s"`)
		pid := in.fill().Waiting[0].PID
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		if log := in.sandboxLog(); !strings.Contains(log, saysMissed) || !strings.Contains(log, saysClone) {
			t.Errorf("log:\n%s", log)
		}
		if slices.ContainsFunc(in.find("qemu"), func(p process) bool { return p.pid == pid }) {
			t.Error("the machine is still there")
		}
	})
	t.Run("machine about to be claimed", func(t *testing.T) {
		in := pooled(t, 1)
		n := 4
		if suite.long {
			n = 40
		}
		for i := range n {
			pid := in.fill().Waiting[0].PID
			done := make(chan result, 1)
			go func() { done <- in.dougong("run", "--rm", busybox(), "echo", "well") }()
			<-time.After(time.Duration(i%10) * 8 * time.Millisecond)
			_ = syscall.Kill(pid, syscall.SIGKILL)
			// Before the container runs, another machine takes the place of this one;
			// afterwards that is the end of the container.
			if r := <-done; (r.code != 0 || r.stdout != "well\n") && (r.code == 0 || !strings.Contains(r.stderr, "killed")) {
				t.Error(r)
			}
		}
	})
	t.Run("claimer", func(t *testing.T) {
		in := pooled(t, 1)
		in.fill()
		in.must("run", "-d", "--name", "box", busybox(), "sleep", "1000")
		keeper := in.pool().PID
		for _, p := range in.find("shim") {
			if p.pid != keeper {
				_ = syscall.Kill(p.pid, syscall.SIGKILL)
			}
		}
		eventually(t, "the end of the container", func() bool { return in.inspect("box").State == "exited" })
		in.must("rm", "box")
		in.must("pool", "stop")
		eventually(t, "the end of all processes", func() bool { return len(processesOf(in.dir)) == 0 })
	})
	t.Run("machine that was claimed", func(t *testing.T) {
		in := pooled(t, 1)
		pid := in.fill().Waiting[0].PID
		in.must("run", "-d", "--name", "box", busybox(), "sleep", "1000")
		_ = syscall.Kill(pid, syscall.SIGKILL)
		eventually(t, "the end of the container", func() bool { return in.inspect("box").State == "exited" })
		if c := in.inspect("box"); c.Exit == nil || c.Exit.Status != 137 || !strings.Contains(c.Exit.Error, "killed") {
			t.Errorf("%+v", c.Exit)
		}
		in.must("rm", "box")
	})
}

// TestPoolOfAnotherKernel replaces the kernel: what waits is of no use any more,
// and gives way.
func TestPoolOfAnotherKernel(t *testing.T) {
	in := pooled(t, 1)
	old := in.fill().Waiting[0].Kind
	kernel := filepath.Join(in.dir, kernelFile)
	if err := copyFile(kernel+".new", kernel); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(kernel+".new", kernel); err != nil {
		t.Fatal(err)
	}
	if log := in.sandboxLog(); !strings.Contains(log, saysMissed) {
		t.Errorf("log:\n%s", log)
	}
	s := in.fill()
	if len(s.Waiting) != 1 || s.Waiting[0].Kind == old || s.Dropped != 1 {
		t.Errorf("afterwards: %+v", s)
	}
}

// TestPoolErrors asks for what cannot be.
func TestPoolErrors(t *testing.T) {
	in := pooled(t, 2, "pool.memory_mib=97")
	in.dougong("pool", "fill").wantError(t, 1, "of 2 machines wait", "pool.memory_mib")
	if s := in.pool(); len(s.Waiting) == 2 || s.Trouble == "" {
		t.Errorf("status: %+v", s)
	}
	in.must("pool", "stop")
	in.must("pool", "stop")
	in.dougong("pool", "status", "--format", "xml").wantError(t, 1, "xml")
	in.configure("pool.size=1", "template.enabled=false")
	in.dougong("run", "--rm", busybox(), "true").wantError(t, 125, "pool.size", "template.enabled")
	in.configure()
	in.dougong("pool", "fill").wantError(t, 1, "pool.size")
	if out := in.must("pool", "status"); !strings.Contains(out, "has no pool") {
		t.Errorf("pool status:\n%s", out)
	}
}
