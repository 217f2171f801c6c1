package critest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideEnv marks the process that runs in a network and mount namespace of
// its own.
const insideEnv = "DOUGONG_CRITEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv("DOUGONG_CRITEST") == "" || os.Geteuid() != 0 {
		fmt.Println("skipped: run 'make test-cri' as root")
		return
	}
	if os.Getenv(insideEnv) == "" {
		os.Exit(enter())
	}
	// Apart from the host's, mounts propagate from one namespace to the next, as
	// on a host.
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), showHugetlb("/sys/fs/cgroup"), unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""), exec.Command("ip", "link", "set", "lo", "up").Run()); err != nil {
		fmt.Fprintln(os.Stderr, "test/critest: separate from the host:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// showHugetlb has containerd pass limits of huge pages on, which it does where it
// finds a directory of such a cgroup. The guest has one in any case.
func showHugetlb(dir string) error {
	if controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers")); err == nil && strings.Contains(string(controllers), "hugetlb") {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	next, err := os.MkdirTemp("", "dgk-cgroup-")
	if err != nil {
		return err
	}
	defer os.Remove(next)
	errs := []error{unix.Mount("tmpfs", next, "tmpfs", 0, "mode=755"), os.Mkdir(filepath.Join(next, "hugetlb"), 0o755)}
	for _, e := range entries {
		from, to := filepath.Join(dir, e.Name()), filepath.Join(next, e.Name())
		switch {
		case e.Name() == "hugetlb":
		case e.IsDir():
			errs = append(errs, os.Mkdir(to, 0o755), unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""))
		default:
			target, err := os.Readlink(from)
			errs = append(errs, err, os.Symlink(target, to))
		}
	}
	return errors.Join(append(errs, unix.Mount(next, dir, "", unix.MS_MOVE, ""))...)
}

// enter builds the suite, for which it may need the network, and runs this
// program once more, apart from the host's network and mounts.
func enter() int {
	if err := buildSuite(); err != nil {
		fmt.Fprintln(os.Stderr, "test/critest:", err)
		return 1
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "test/critest:", err)
		return 1
	}
	return 0
}

func buildSuite() error {
	pulled, err := plain("digest").Build()
	if err != nil {
		return err
	}
	script := exec.Command("../../scripts/critest.sh", os.Getenv("DOUGONG_CRITEST"), os.Getenv("DOUGONG_CRITEST_VERSION"), pulled.Manifest.Digest.String())
	script.Stdout, script.Stderr = os.Stderr, os.Stderr
	return script.Run()
}

// directory is one that the test removes unless it fails, for its logs.
func directory(t *testing.T) string {
	t.Helper()
	// Short, as sockets are in it.
	dir, err := os.MkdirTemp("", "dgk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("logs are in", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// product writes a configuration of the product, with the guest image of now.
func product(t *testing.T, dir string) string {
	t.Helper()
	const guest = "/var/lib/dougong/guest/current"
	config := "[vm]\n"
	for key, file := range map[string]string{"kernel": "vmlinux", "initrd": "initramfs.cpio"} {
		data, err := os.ReadFile(filepath.Join(guest, file))
		if err != nil {
			t.Fatalf("%v; make it with: make guest", err)
		}
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("%s = %q\n", key, path)
	}
	config += fmt.Sprintf("[storage]\nroot = %q\n[runtime]\nlog_level = \"debug\"\n", filepath.Join(dir, "storage"))
	path := filepath.Join(dir, "dougong.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// setUp starts the registry and containerd, and returns its socket and the
// programs of the suite.
func setUp(t *testing.T, sandboxer, snapshotter string) (socket, critest string) {
	t.Helper()
	dir := directory(t)
	clients := os.Getenv("DOUGONG_CRITEST")
	if err := buildPrograms(dir); err != nil {
		t.Fatal(err)
	}
	all, err := images(filepath.Join(clients, "busybox"), dir)
	if err != nil {
		t.Fatal(err)
	}
	address, err := serveImages(filepath.Join(dir, "images"), all)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{dir: dir, product: product(t, dir)}
	if err := d.configure(sandboxer, snapshotter, address); err != nil {
		t.Fatal(err)
	}
	daemons := os.Getenv("DOUGONG_CONTAINERD")
	if sandboxer == old {
		daemons = filepath.Join(filepath.Dir(daemons), old)
	}
	if err := d.start(daemons, os.Getenv("DOUGONG_BIN")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	return d.socket(), filepath.Join(clients, "critest")
}

// report is the part of ginkgo's report that is of use.
type report struct {
	SpecReports []struct {
		ContainerHierarchyTexts []string
		LeafNodeType            string
		LeafNodeText            string
		State                   string
		Failure                 struct{ Message string }
	}
}

// failures are the tests that failed, with what they said, and passed those
// that did not.
func (r report) failures() (failed map[string]string, passed []string) {
	failed = map[string]string{}
	for _, s := range r.SpecReports {
		name := strings.Join(append(slices.Clone(s.ContainerHierarchyTexts), s.LeafNodeText), " ")
		switch {
		case s.LeafNodeType != "It" && s.State != "passed":
			failed[s.LeafNodeType+" "+name] = s.Failure.Message
		case s.LeafNodeType != "It" || s.State == "skipped" || s.State == "pending":
		case s.State == "passed":
			passed = append(passed, name)
		default:
			failed[name] = s.Failure.Message
		}
	}
	return failed, passed
}

// expected reads the list of tests that fail: lines of a name, a tab and the
// reason.
func expected(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("expected.txt")
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, "\t")
		if !ok || reason == "" {
			t.Fatalf("expected.txt: %q has no reason after a tab", line)
		}
		list[name] = reason
	}
	return list
}

// suiteTime bounds a run of the suite.
const suiteTime = 40 * time.Minute

// run runs the suite, or of it what DOUGONG_CRITEST_FOCUS names.
func run(t *testing.T, socket, critest string) report {
	t.Helper()
	path := filepath.Join(filepath.Dir(socket), "report.json")
	args := []string{
		"-runtime-endpoint=unix://" + socket, "-image-endpoint=unix://" + socket,
		"-ginkgo.no-color", "-ginkgo.json-report=" + path, "-ginkgo.timeout=" + suiteTime.String(),
	}
	if focus := os.Getenv("DOUGONG_CRITEST_FOCUS"); focus != "" {
		args = append(args, "-ginkgo.focus="+focus)
	}
	log, err := os.Create(filepath.Join(filepath.Dir(socket), "critest.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var last bytes.Buffer
	cmd := exec.Command(critest, args...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(log, &last), log
	// A failing test is an exit status, too; the report tells which.
	runErr := cmd.Run()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("critest: %v, %v: %s", runErr, err, tail(last.String()))
	}
	var reports []report
	if err := json.Unmarshal(data, &reports); err != nil || len(reports) != 1 {
		t.Fatalf("report of critest: %v", err)
	}
	return reports[0]
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

func TestConformance(t *testing.T) {
	socket, critest := setUp(t, "podsandbox", "overlayfs")
	before := leftovers(t, socket)
	failed, passed := run(t, socket, critest).failures()
	compare(t, expected(t), failed, passed)
	if diff := leftovers(t, socket); !slices.Equal(before, diff) {
		t.Errorf("left behind: %q, before %q", diff, before)
	}
}

// compare holds a run against the list, in both directions.
func compare(t *testing.T, list, failed map[string]string, passed []string) {
	t.Helper()
	t.Logf("%d tests pass, %d fail", len(passed), len(failed))
	if len(passed) == 0 {
		t.Error("no test passes")
	}
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		if _, ok := list[name]; !ok {
			t.Errorf("fails: %s\n%s", name, tail(failed[name]))
		}
	}
	for _, name := range passed {
		if _, ok := list[name]; ok {
			t.Errorf("passes, but is in expected.txt: %s", name)
		}
	}
}

// leftovers are processes of machines, network devices and mounts that belong
// to this daemon.
func leftovers(t *testing.T, socket string) []string {
	t.Helper()
	var found []string
	for begin := time.Now(); ; <-time.After(100 * time.Millisecond) {
		found = look(filepath.Dir(socket))
		if len(found) == 0 || time.Since(begin) > patience {
			return found
		}
	}
}

func look(dir string) []string {
	var found []string
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		data, _ := os.ReadFile(path)
		line := strings.ReplaceAll(string(data), "\x00", " ")
		cwd, _ := os.Readlink(filepath.Join(filepath.Dir(path), "cwd"))
		shim := strings.Contains(line, "containerd-shim-dougong-v2") && strings.HasPrefix(cwd, dir)
		if shim || strings.Contains(line, dir) && (strings.Contains(line, "virtiofsd") || strings.Contains(line, "qemu-system")) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir+"/state") || strings.Contains(line, "/netns/cni-") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	devices, _ := filepath.Glob("/sys/class/net/veth*")
	return append(found, devices...)
}
