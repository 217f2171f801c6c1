package oci

import (
	"bytes"
	"context"
	"errors"
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

	"dougong.dev/dougong/test/enclave"
)

// programTime is how long a validation program may take. Some make several
// containers, one after the other.
const programTime = 3 * time.Minute

// expected reads how each validation program has to end: with pass or fail, or with
// either, where that is a matter of who is first.
func expected(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("expected.txt")
	if err != nil {
		t.Fatal(err)
	}
	ends := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		if len(words) != 2 || !slices.Contains([]string{"pass", "fail", "either"}, words[0]) || ends[words[1]] != "" {
			t.Fatalf("expected.txt: %q: want pass, fail or either, and the name of a program, once", line)
		}
		ends[words[1]] = words[0]
	}
	return ends
}

// TestValidation runs the validation programs of OCI's runtime-tools, which make
// bundles and look at what becomes of them, from inside and from outside.
func TestValidation(t *testing.T) {
	dir := os.Getenv("DOUGONG_VALIDATION")
	if dir == "" {
		t.Skip("DOUGONG_VALIDATION names no directory with the programs; make test-oci-validation does")
	}
	ends := expected(t)
	programs, err := os.ReadDir(filepath.Join(dir, "programs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if ends[p.Name()] == "" {
			t.Errorf("program %s is not in expected.txt", p.Name())
		}
	}
	passed := 0
	for _, name := range slices.Sorted(maps.Keys(ends)) {
		end, said := validate(t, dir, name)
		if end == "pass" {
			passed++
		}
		if end != ends[name] && ends[name] != "either" {
			t.Errorf("%s ends with %s, expected.txt says %s:\n%s", name, end, ends[name], said)
		}
	}
	t.Logf("%d of %d pass", passed, len(ends))
	// Of the paths that the programs give, the upper parts stay, as with runc.
	enclave.RemoveCgroups(cgroup()+"/*/*", cgroup()+"/*")
}

// validate runs one program and says how it ended.
func validate(t *testing.T, dir, name string) (end, said string) {
	t.Helper()
	place := t.TempDir()
	// It is copied into bundles as it is, so that a link would lead nowhere there.
	for _, file := range []string{"runtimetest", "rootfs-amd64.tar.gz"} {
		if out, err := exec.Command("cp", filepath.Join(dir, file), place).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), programTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "programs", name))
	cmd.Dir = place
	// Not all of them remove their bundles, which users of other ids must get to.
	if err := errors.Join(os.Chmod(place, 0o755), os.Chmod(filepath.Dir(place), 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "TMPDIR="+place, "RUNTIME="+filepath.Join(suite.bin, "dougong"), "DOUGONG_CONFIG="+suite.config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	tidy(t)
	if err == nil && !bytes.Contains(out.Bytes(), []byte("not ok ")) {
		return "pass", out.String()
	}
	return "fail", out.String()
}

// tidy removes the containers that a program has left, and reaps what has
// become ours.
func tidy(t *testing.T) {
	t.Helper()
	list := exec.Command(filepath.Join(suite.bin, "dougong"), "list", "--quiet")
	list.Env = append(os.Environ(), "DOUGONG_CONFIG="+suite.config)
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for id := range strings.FieldsSeq(string(out)) {
		remove := exec.Command(filepath.Join(suite.bin, "dougong"), "delete", "--force", id)
		remove.Env = list.Env
		if out, err := remove.CombinedOutput(); err != nil {
			t.Errorf("delete %s: %v: %s", id, err, out)
		}
	}
	for {
		var status unix.WaitStatus
		if pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil); err != nil || pid <= 0 {
			return
		}
	}
}
