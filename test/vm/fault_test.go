package vm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// kill sends SIGKILL to the processes of a kind. One that is gone meanwhile
// is no error.
func (in *installation) kill(kind string) {
	for _, p := range in.find(kind) {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// phases are the points in the life of a container at which something is
// killed, each known by what can be seen of it on the host.
var phases = []struct {
	name    string
	reached func(in *installation, output *watched) bool
	// has lists the processes that this phase has for sure.
	has []string
}{
	{"sandbox process started", func(in *installation, _ *watched) bool { return len(in.find("shim")) > 0 }, []string{"dougong", "shim"}},
	{"virtiofsd started", func(in *installation, _ *watched) bool { return len(in.find("virtiofsd")) > 0 }, []string{"dougong", "shim", "virtiofsd"}},
	{"QEMU started", func(in *installation, _ *watched) bool { return len(in.find("qemu")) > 0 }, []string{"dougong", "shim", "virtiofsd", "qemu"}},
	{"guest boots", func(in *installation, _ *watched) bool {
		return in.cpuTicks("qemu") > 120 || in.logSays("sandbox running")
	}, []string{"dougong", "shim", "virtiofsd", "qemu"}},
	{"container is made", func(in *installation, _ *watched) bool { return in.logSays("sandbox running") }, []string{"dougong", "shim", "virtiofsd", "qemu"}},
	{"container runs", func(_ *installation, output *watched) bool { return output.has("running") }, []string{"dougong", "shim", "virtiofsd", "qemu"}},
}

// cpuTicks is how much CPU time the processes of a kind have used, in
// hundredths of a second.
func (in *installation) cpuTicks(kind string) int {
	ticks := 0
	for _, p := range in.find(kind) {
		ticks += p.cpuTicks()
	}
	return ticks
}

// logSays reports whether a sandbox process has logged this.
func (in *installation) logSays(words string) bool {
	logs, _ := filepath.Glob(filepath.Join(in.state, "*", "sandbox.log"))
	for _, path := range logs {
		if data, _ := os.ReadFile(path); bytes.Contains(data, []byte(words)) {
			return true
		}
	}
	return false
}

// TestKill kills each process of a sandbox in each phase of its life. The
// phases that come before the first word of the guest differ with and without
// a template, so each is tried both ways.
func TestKill(t *testing.T) {
	for _, templates := range []string{"true", "false"} {
		for _, victim := range []string{"dougong", "shim", "virtiofsd", "qemu"} {
			for _, phase := range phases {
				if !slices.Contains(phase.has, victim) {
					continue
				}
				t.Run(fmt.Sprintf("%s when %s, templates %s", victim, phase.name, templates), func(t *testing.T) {
					in := install(t, "template.enabled="+templates)
					killIn(t, in, victim, phase.reached)
				})
			}
		}
	}
}

// killIn starts a container, kills a process of it when a phase is reached,
// and checks how that ends.
func killIn(t *testing.T, in *installation, victim string, reached func(*installation, *watched) bool) {
	share := in.mkdir("share")
	cmd := in.command("run", "--rm", "--name", "box", "-v", share+":/share", busybox(), "sh", "-c", "echo running; exec sleep 1000")
	var output, stderr watched
	cmd.Stdout, cmd.Stderr = &output, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the phase", func() bool { return reached(in, &output) })
	running := output.has("running")
	in.kill(victim)
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	recovered := false
	eventually(t, "an end, or a container that runs after all", func() bool {
		recovered = !running && output.has("running")
		select {
		case <-ended:
			return true
		default:
			return recovered
		}
	})
	if recovered {
		// A clone that cannot be started is replaced by a machine that boots.
		if victim != "qemu" {
			t.Errorf("the container runs without its %s", victim)
		}
		in.must("rm", "-f", "box")
	}
	<-ended
	if !recovered {
		checkKilled(t, in, cmd, victim, stderr.String())
	}
	eventually(t, "the end of all processes", func() bool { return len(processesOf(in.dir)) == 0 })
	if out := in.must("ps", "-a", "-q"); out != "" {
		t.Errorf("left in ps -a: %q", out)
	}
}

// checkKilled checks how a command ended of which a process was killed.
func checkKilled(t *testing.T, in *installation, cmd *exec.Cmd, victim, stderr string) {
	t.Helper()
	if victim == "dougong" {
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Errorf("it ended with %v", cmd.ProcessState)
		}
		return
	}
	if code := cmd.ProcessState.ExitCode(); code != 125 && code != 137 {
		t.Errorf("exit code %d, want 125 or 137", code)
	}
	words := map[string]string{"shim": "sandbox process", "qemu": "SIGKILL", "virtiofsd": "virtiofsd"}[victim]
	if !strings.Contains(stderr, words) {
		t.Errorf("the message does not speak of %q:\n%s", words, stderr)
	}
}

// TestKillDetached kills a sandbox without a command line above it.
func TestKillDetached(t *testing.T) {
	in := install(t)
	in.must("run", "-d", "--name", "box", busybox(), "sleep", "1000")
	in.kill("qemu")
	eventually(t, "the end of the container", func() bool { return in.inspect("box").State == "exited" })
	if c := in.inspect("box"); c.Exit == nil || c.Exit.Status != 137 || !strings.Contains(c.Exit.Error, "SIGKILL") {
		t.Errorf("%+v", c.Exit)
	}
	in.must("rm", "box")

	in.must("run", "-d", "--name", "box", busybox(), "sleep", "1000")
	in.kill("shim")
	// A process that ends holds its lock for a moment after it was last seen.
	var c container
	eventually(t, "the end of the container", func() bool { c = in.inspect("box"); return c.State == "exited" })
	if c.Exit == nil || c.Exit.Status == 0 || !strings.Contains(c.Exit.Error, "sandbox process") {
		t.Errorf("%+v: %+v", c, c.Exit)
	}
	// Its name and its place are free again.
	in.must("rm", "box")
}

func TestGuestPanic(t *testing.T) {
	in := install(t)
	r := in.dougong("run", "--rm", "--privileged", busybox(), "sh", "-c", "mount -o remount,rw /proc/sys; mount -o remount,rw /proc; echo c > /proc/sysrq-trigger; sleep 1000")
	if r.code == 0 || r.code == 1 {
		t.Errorf("exit code %d", r.code)
	}
	for _, words := range []string{"panic", "last lines", "sysrq"} {
		if !strings.Contains(r.stderr, words) {
			t.Errorf("want %q in the message:\n%v", words, r)
		}
	}
}

// TestMissingParts runs without one of the files that it takes.
func TestMissingParts(t *testing.T) {
	for name, tt := range map[string]struct {
		setting string
		says    []string
	}{
		"qemu":      {`vm.qemu="/nonexistent/qemu"`, []string{"/nonexistent/qemu"}},
		"virtiofsd": {`share.virtiofsd="/nonexistent/virtiofsd"`, []string{"/nonexistent/virtiofsd"}},
		"kernel":    {`vm.kernel="/nonexistent/vmlinux"`, []string{"/nonexistent/vmlinux"}},
		"initrd":    {`vm.initrd="/nonexistent/initramfs"`, []string{"/nonexistent/initramfs"}},
		"shim":      {`runtime.shim="/nonexistent/shim"`, []string{"/nonexistent/shim"}},
		"bad QEMU":  {`vm.qemu="/bin/false"`, []string{"QEMU"}},
		"no kernel": {`vm.kernel="/etc/passwd"`, []string{"/etc/passwd"}},
		"bad key":   {`vm.memory_mb=1`, []string{"memory_mb", "memory_mib"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := install(t)
			share := in.mkdir("share")
			in.configure(tt.setting)
			in.dougong("run", "--rm", "-v", share+":/share", busybox(), "true").wantError(t, 125, tt.says...)
			in.configure()
		})
	}
}

// TestCorruptLayer runs an image of which a byte was changed.
func TestCorruptLayer(t *testing.T) {
	in := install(t)
	layout := in.path("layout")
	built := writeImage(t, layout, imageWithFile("which", strings.Repeat("whole ", 1000)))
	blob := filepath.Join(layout, "blobs", "sha256", built.Layers[0].Encoded())
	data, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(blob, data, 0o644); err != nil {
		t.Fatal(err)
	}
	before := in.must("images", "-q")
	in.dougong("run", "--rm", "oci:"+layout, "true").wantError(t, 125, built.Layers[0].Encoded())
	if after := in.must("images", "-q"); after != before {
		t.Errorf("images before %q, after %q", before, after)
	}
}

// TestNoSpace has an image store on a file system that is too small.
func TestNoSpace(t *testing.T) {
	in := install(t)
	small := in.mkdir("small")
	if err := unix.Mount("small", small, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	})
	in.configure("storage.root=" + quote(small))
	in.dougong("run", "--rm", busybox(), "true").wantError(t, 125, "no space", small)
	if left := leftInStore(small); len(left) > 0 {
		t.Errorf("left in the store: %q", left)
	}
	if out := in.must("images", "-q"); out != "" {
		t.Errorf("half an image counts as one: %q", out)
	}
}

// TestNoSpaceForState has a state directory without space.
func TestNoSpaceForState(t *testing.T) {
	in := install(t)
	if err := unix.Mount("small", in.state, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	r := in.dougong("run", "--rm", busybox(), "true")
	r.wantError(t, 125, "no space left on device")
	if out := in.must("ps", "-a", "-q"); out != "" {
		t.Errorf("left: %q", out)
	}
	if err := unix.Unmount(in.state, 0); err != nil {
		t.Error(err)
	}
}

// TestKillWhileSaving kills the sandbox process that makes a template. What it
// leaves is removed when the next one is started, which makes it anew.
func TestKillWhileSaving(t *testing.T) {
	in := install(t)
	store := in.mkdir("store")
	in.configure("storage.root=" + quote(store))
	halfMade := func() []string {
		found, _ := filepath.Glob(filepath.Join(store, "templates", ".[^l]*"))
		return found
	}
	cmd := in.command("run", "--rm", busybox(), "true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a template being made", func() bool { return len(halfMade()) > 0 && len(in.find("qemu")) > 0 })
	in.kill("shim")
	_ = cmd.Wait()
	eventually(t, "the end of all processes", func() bool { return len(processesOf(in.dir)) == 0 })
	if out := in.must("run", "--rm", busybox(), "echo", "well"); out != "well" {
		t.Errorf("output %q", out)
	}
	if left := halfMade(); len(left) > 0 {
		t.Errorf("half-made templates are left: %q", left)
	}
	if whole, _ := filepath.Glob(filepath.Join(store, "templates", "*", "manifest.json")); len(whole) != 1 {
		t.Errorf("templates %q, want one", whole)
	}
}
