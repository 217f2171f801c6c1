package containerd

import (
	"archive/tar"
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// clientSuite is the list of containerd's own client tests: what must pass, and
// what does not and why.
const clientSuite = "testdata/client-suite.txt"

// readSuite returns the tests that must pass, and all that are listed.
func readSuite(t *testing.T) (pass, listed []string) {
	t.Helper()
	f, err := os.Open(clientSuite)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); {
		verdict, rest, _ := strings.Cut(scan.Text(), " ")
		name, reason, _ := strings.Cut(rest, " ")
		switch {
		case verdict == "pass" && reason == "":
			pass = append(pass, name)
		case (verdict == "fail" || verdict == "skip") && reason != "":
		case verdict == "" || strings.HasPrefix(verdict, "#"):
			continue
		default:
			t.Fatalf("%s: %q is none of: pass NAME, fail NAME REASON, skip NAME REASON", clientSuite, scan.Text())
		}
		listed = append(listed, name)
	}
	return pass, listed
}

// aboutTasks are the tests that the list is about; others are about images,
// content, leases and the like, and start nothing.
var aboutTasks = regexp.MustCompile(`^Test(Container|Task|Daemon|Wait|Process|Shim|Delete|Kill|Short|Regression|Issue|User|UID|Bind|NewContainer|RestartMonitor|Checkpoint)`)

// The client tests of containerd, as they are, against a daemon of theirs.
func TestClientSuite(t *testing.T) {
	for _, d := range suite.daemons {
		if d.isNew() {
			runClientSuite(t, d)
		}
	}
}

func runClientSuite(t *testing.T, d *daemon) {
	pass, listed := readSuite(t)
	binary := filepath.Join(d.bin, "client.test")
	out, err := exec.Command(binary, "-test.list", ".*", "-test.short").Output()
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for name := range strings.FieldsSeq(string(out)) {
		if aboutTasks.MatchString(name) {
			there = append(there, name)
		}
	}
	slices.Sort(there)
	slices.Sort(listed)
	if diff := cmp.Diff(there, slices.Compact(listed)); diff != "" {
		t.Errorf("%s does not list what there is (-there +listed):\n%s", clientSuite, diff)
	}
	for _, dir := range []string{"/run/containerd-test", "/var/lib/containerd-test"} {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	names := []string{"containerd/busybox:1.36", "containerd/alpine:3.14.0", "containerd/volume-copy-up:2.2", "containerd/volume-ownership:2.1", "pause:3.10.2"}
	r := serveRegistries(t, []string{"ghcr.io", "registry.k8s.io"}, suiteImage(t), names...)
	log := filepath.Join(suite.base, "client-suite.log")
	runBinary(t, d, binary, log, r, pass)
	compareVerdicts(t, log, pass)
}

// suiteImage has the users and programs that the suite expects in a busybox.
func suiteImage(t *testing.T) v1.Image {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, f := range map[string]struct {
		mode int64
		text string
	}{
		"etc/passwd":     {0o644, "root:x:0:0:root:/root:/bin/sh\nsys:x:3:3:sys:/dev:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"},
		"etc/group":      {0o644, "root:x:0:\nsys:x:3:\ntty:x:5:\nwww-data:x:33:\n"},
		"bin/bash":       {0o755, "#!/bin/sh\nexec sh \"$@\"\n"},
		"usr/bin/passwd": {0o4755, ""},
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: f.mode, Size: int64(len(f.text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(imageOf(t, filepath.Join(suite.base, "busybox")), layer)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// runBinary runs the tests, and what is left of them ends.
func runBinary(t *testing.T, d *daemon, binary, log string, r registries, pass []string) {
	t.Helper()
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(binary, "-test.v", "-test.root", "-no-criu", "-test.parallel", "2", "-test.timeout", "10m",
		"-test.run", "^("+strings.Join(pass, "|")+")$")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+d.bin+":"+suite.bin+":"+os.Getenv("PATH"), "DOUGONG_CONFIG="+suite.config,
		"TEST_RUNTIME="+runtimeName, "RUNC_FLAVOR=none", "HTTPS_PROXY="+r.proxy, "SSL_CERT_FILE="+r.certificate)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		t.Errorf("%v; see what follows", err)
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}

// compareVerdicts reports each test that had to pass and did not.
func compareVerdicts(t *testing.T, log string, pass []string) {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, name := range pass {
		if strings.Contains(text, "--- PASS: "+name+" (") {
			continue
		}
		t.Errorf("%s does not pass", name)
	}
	if t.Failed() {
		t.Log(lastLines(text, 60))
	}
}

// lastLines are the last lines that say something about tests.
func lastLines(text string, n int) string {
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "log_hook.go") && !strings.Contains(line, "level=") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-n):], "")
}
