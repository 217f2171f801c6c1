package guestimage

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/vmm"
)

// bootTimeout is far more than a boot takes, also on a busy machine.
const bootTimeout = 2 * time.Minute

// guestMemory is what test machines get, in MiB.
const guestMemory = 256

// repository is the path of the repository's root from this package.
const repository = "../.."

// script runs one of the project's scripts, once, and returns the path that
// it prints.
func script(name, dir string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		cmd := exec.Command(filepath.Join(repository, "scripts", name), filepath.Join(repository, "_build", dir))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("scripts/%s: %w", name, err)
		}
		return strings.TrimSpace(string(out)), nil
	})
}

var (
	fetchKernel = script("fetch-kernel.sh", "kernel")
	buildCrun   = script("build-crun.sh", "crun")
)

// testKernel is Debian's cloud kernel.
func testKernel(tb testing.TB) Kernel {
	tb.Helper()
	root, err := fetchKernel()
	if err != nil {
		tb.Fatal(err)
	}
	kernel, err := FindKernel(root)
	if err != nil {
		tb.Fatal(err)
	}
	return kernel
}

// standIn builds the agent's stand-in.
func standIn(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "standin")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "./testdata/standin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build the stand-in: %v\n%s", err, out)
	}
	return path
}

// distributionCrun is linked dynamically.
const distributionCrun = "/usr/bin/crun"

// testImage is a guest image with the stand-in.
func testImage(tb testing.TB, crun string) *Image {
	tb.Helper()
	return imageOf(tb, testKernel(tb), crun)
}

func imageOf(tb testing.TB, kernel Kernel, crun string) *Image {
	tb.Helper()
	img, err := Build(tb.TempDir(), Options{Kernel: kernel, Agent: standIn(tb), Crun: crun})
	if err != nil {
		tb.Fatal(err)
	}
	return img
}

// bootLog is what a guest said, and when.
type bootLog struct {
	// reports are the values of the stand-in's lines by key.
	reports map[string][]string
	// at is the time from QEMU's start to the first line of a key.
	at map[string]time.Duration
	// console is everything.
	console strings.Builder
	// exit is how QEMU ended, cpu the processor time it took, and memory the
	// most it had of the host's, in bytes.
	exit   error
	cpu    time.Duration
	memory int
}

// boot boots an image on the machine that sandboxes get, until it ends.
func boot(tb testing.TB, img *Image, cmdline string) *bootLog {
	tb.Helper()
	cmd, console := machine(tb, img, cmdline)
	log := &bootLog{reports: map[string][]string{}, at: map[string]time.Duration{}}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start QEMU (package qemu-system-x86): %v", err)
	}
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	timer := time.AfterFunc(bootTimeout, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	for lines := bufio.NewScanner(console); lines.Scan(); {
		line := strings.TrimRight(lines.Text(), "\r")
		fmt.Fprintln(&log.console, line)
		_, said, ok := strings.Cut(line, "standin: ")
		key, value, ok2 := strings.Cut(said, " ")
		if !ok || !ok2 {
			continue
		}
		if _, again := log.at[key]; !again {
			log.at[key] = time.Since(start)
		}
		log.reports[key] = append(log.reports[key], value)
	}
	log.exit = cmd.Wait()
	log.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		log.memory = int(usage.Maxrss) << 10
	}
	return log
}

// machine is QEMU, not started, and the near end of its serial console.
func machine(tb testing.TB, img *Image, cmdline string) (*exec.Cmd, *os.File) {
	tb.Helper()
	const firstFD = 3
	var near, far []*os.File
	for _, name := range []string{"qmp", "agent", "console"} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			tb.Fatal(err)
		}
		near, far = append(near, os.NewFile(uintptr(fds[0]), name)), append(far, os.NewFile(uintptr(fds[1]), name))
	}
	for _, path := range []string{img.Kernel, img.Initrd} {
		f, err := os.Open(path)
		if err != nil {
			tb.Fatal(err)
		}
		far = append(far, f)
	}
	tb.Cleanup(func() {
		for _, f := range slices.Concat(near, far) {
			f.Close()
		}
	})
	spec := vmm.MachineSpec{
		Name: "test", Accelerator: vmm.TCG, CPUs: 1, MemoryMiB: guestMemory,
		Kernel: img.Kernel, Initrd: img.Initrd, Cmdline: cmdline,
	}
	args, err := qemu.Args(spec, qemu.FDs{QMP: firstFD, Agent: firstFD + 1, Console: firstFD + 2, Kernel: firstFD + 3, Initrd: firstFD + 4})
	if err != nil {
		tb.Fatal(err)
	}
	// Nobody speaks QMP here, which would let the machine run.
	args = slices.DeleteFunc(args, func(arg string) bool { return arg == "-S" })
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.ExtraFiles, cmd.Stderr = far, os.Stderr
	return cmd, near[2]
}

// numbers are the values of a key, sorted.
func (l *bootLog) numbers(tb testing.TB, key string) []int {
	tb.Helper()
	var all []int
	for _, value := range l.reports[key] {
		n, err := strconv.Atoi(value)
		if err != nil {
			tb.Fatalf("%s: %v", key, err)
		}
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

func TestBootSetsUpGuest(t *testing.T) {
	for name, c := range map[string]struct {
		kernel      func(testing.TB) Kernel
		controllers string
		modules     map[string]bool
	}{
		"stock": {
			testKernel, "cpuset cpu io memory hugetlb pids rdma misc",
			map[string]bool{"virtio_console": true, "overlay": true, "virtio_balloon": true, "virtio_net": false, "xfs": false},
		},
		"trimmed": {trimmedKernel, "cpuset cpu io memory hugetlb pids rdma misc", nil},
	} {
		t.Run(name, func(t *testing.T) {
			img := imageOf(t, c.kernel(t), distributionCrun)
			log := boot(t, img, Cmdline(CmdlineOptions{Emulated: true, Extra: "standin=look"}))
			if log.exit != nil || len(log.reports["done"]) == 0 {
				t.Fatalf("the guest did not power off after its agent: %v\n%s", log.exit, log.console.String())
			}
			expectGuest(t, log, map[string]string{"release": img.Release, "ports": "[/dev/vport0p1]", "controllers": c.controllers})
			loaded := strings.Join(log.reports["modules"], "\n")
			for name, want := range c.modules {
				if strings.Contains(loaded, name+" ") != want {
					t.Errorf("module %s loaded: %t, want %t", name, !want, want)
				}
			}
		})
	}
}

// expectGuest checks what is mounted, and other reports.
func expectGuest(t *testing.T, log *bootLog, reports map[string]string) {
	t.Helper()
	for key, want := range reports {
		if got := strings.Join(log.reports[key], "; "); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	mounts := strings.Join(log.reports["mounts"], "\n")
	for _, want := range []string{" /proc proc ", " /sys sysfs ", " /dev devtmpfs ", " /dev/pts devpts ", " /dev/shm tmpfs ", " /run tmpfs ", " /tmp tmpfs ", " /sys/fs/cgroup cgroup2 "} {
		if !strings.Contains(mounts, want) {
			t.Errorf("no mount%sin\n%s", want, mounts)
		}
	}
}

func TestBootContainersPivotRoot(t *testing.T) {
	static, err := buildCrun()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		kernel func(testing.TB) Kernel
		crun   string
	}{
		"static":  {testKernel, static},
		"dynamic": {testKernel, distributionCrun},
		"trimmed": {trimmedKernel, static},
	} {
		t.Run(name, func(t *testing.T) {
			log := boot(t, imageOf(t, c.kernel(t), c.crun), Cmdline(CmdlineOptions{Emulated: true, Extra: "standin=crun"}))
			// Ten: five by run, five by create and start.
			if len(log.reports["contained"]) != 10 || len(log.reports["crun-program"]) != 5 || len(log.reports["error"]) != 0 {
				t.Fatalf("containers do not run in the guest\n%s", log.console.String())
			}
			// A copy of itself, which crun makes where its own file is not
			// protected, would cost each command half as much again.
			for _, path := range log.reports["crun-program"] {
				if path != "/usr/bin/crun" {
					t.Errorf("crun runs from %s", path)
				}
			}
			for _, step := range []string{"version", "run", "create", "start", "delete"} {
				t.Logf("crun %s: %v ms", step, log.numbers(t, "crun-"+step))
			}
		})
	}
}

func TestBootEndsWithItsAgent(t *testing.T) {
	log := boot(t, testImage(t, distributionCrun), Cmdline(CmdlineOptions{Emulated: true, Extra: "standin=die"}))
	if log.exit != nil {
		t.Errorf("QEMU's end: %v", log.exit)
	}
	if want := "dougong: the agent ended: exit status 3"; !strings.Contains(log.console.String(), want) {
		t.Errorf("the console does not say %q:\n%s", want, log.console.String())
	}
}
