package shim

import (
	"bytes"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// crashed makes the bundle of a sandbox whose processes are left.
func crashed(t *testing.T, config string) (bundle string, left *exec.Cmd) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mount namespaces are for root")
	}
	bundle = t.TempDir()
	if err := os.MkdirAll(stateDir(bundle), 0o700); err != nil {
		t.Fatal(err)
	}
	left = exec.Command("sleep", "1000")
	left.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = left.Process.Kill() })
	namespace, err := os.Readlink("/proc/" + strconv.Itoa(left.Process.Pid) + "/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{
		filepath.Join(stateDir(bundle), traceFile): namespace,
		filepath.Join(bundle, "config.json"):       config,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return bundle, left
}

func TestDeleteAfterACrash(t *testing.T) {
	bundle, left := crashed(t, `{"hooks":{"poststop":[{"path":"/bin/sh","args":["sh","-c","cat >poststop"]}]}}`)
	waited := make(chan error, 1)
	go func() { waited <- left.Wait() }()
	data, err := Delete(bundle)
	if err != nil {
		t.Fatal(err)
	}
	await(t, waited, "end of what was left")
	var answer task.DeleteResponse
	if err := proto.Unmarshal(data, &answer); err != nil {
		t.Fatal(err)
	}
	if answer.ExitStatus != 137 || time.Since(answer.ExitedAt.AsTime()) > time.Minute {
		t.Errorf("answer is %v", &answer)
	}
	if _, err := os.Stat(stateDir(bundle)); !os.IsNotExist(err) {
		t.Errorf("state is left: %v", err)
	}
	if state, err := os.ReadFile(filepath.Join(bundle, "poststop")); err != nil || !strings.Contains(string(state), `"stopped"`) {
		t.Errorf("poststop hook got %q, %v", state, err)
	}
}

func TestDeleteAfterAProperEnd(t *testing.T) {
	bundle := t.TempDir()
	config := `{"hooks":{"poststop":[{"path":"/bin/sh","args":["sh","-c","cat >poststop"]}]}}`
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Delete(bundle); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bundle, "poststop")); err == nil {
		t.Error("the poststop hook is run twice")
	}
}

func TestDeleteSparesItsOwnNamespace(t *testing.T) {
	bundle := t.TempDir()
	if err := os.MkdirAll(stateDir(bundle), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeTrace(bundle); err != nil {
		t.Fatal(err)
	}
	if err := endTraced(bundle); err == nil {
		t.Error("the whole host is taken for a sandbox")
	}
}

func TestLogNeverWaits(t *testing.T) {
	dir := fifos(t, "log")
	fd, err := unix.Open(filepath.Join(dir, "log"), unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := &fifoLog{fd: fd}
	line := bytes.Repeat([]byte("x"), 1000)
	for range 1000 {
		if n, err := l.Write(line); n != len(line) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	// Who comes late reads what fitted.
	reader := openFile(t, filepath.Join(dir, "log"), os.O_RDONLY|unix.O_NONBLOCK)
	_ = unix.Close(fd)
	got, err := io.ReadAll(reader)
	if len(got) < 4096 || err != nil {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

// program is a logging program, a shell script.
func program(t *testing.T, scheme, script, query string) *url.URL {
	t.Helper()
	path := filepath.Join(t.TempDir(), "logger")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(scheme + "://" + path + query)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// awaitFile waits until a program has written just this.
func awaitFile(t *testing.T, path, want string) {
	t.Helper()
	for begin := time.Now(); ; <-time.After(5 * time.Millisecond) {
		got, err := os.ReadFile(path)
		if string(got) == want {
			return
		}
		if time.Since(begin) > patience {
			t.Fatalf("%s is %q, %v", path, got, err)
		}
	}
}

func TestLoggingProgram(t *testing.T) {
	dir := t.TempDir()
	u := program(t, "binary", `PATH=/bin:/usr/bin; echo "$CONTAINER_NAMESPACE/$CONTAINER_ID $*" >$2/who; exec 5>&-; cat <&3 >$2/out; cat <&4 >$2/err`, "?dir="+dir)
	stdio, err := OpenStdio(t.Context(), URIs{Stdout: u.String(), Stderr: u.String(), Namespace: "ns", Container: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(stdio.Stdout, "one\n")
	_, _ = io.WriteString(stdio.Stderr, "two\n")
	stdio.Close()
	for name, want := range map[string]string{"who": "ns/c1 dir " + dir + "\n", "out": "one\n", "err": "two\n"} {
		awaitFile(t, filepath.Join(dir, name), want)
	}
}

func TestLoggingProgramOfATerminal(t *testing.T) {
	dir := t.TempDir()
	u := program(t, "binary-v2", `PATH=/bin:/usr/bin; printf x >&5; exec 5>&-; cat <&3 >$2/out; cat <&4`, "?dir="+dir)
	stdio, err := OpenStdio(t.Context(), URIs{Stdout: u.String(), Terminal: true})
	if err != nil || stdio.Stderr != nil {
		t.Fatalf("stderr is %v, %v", stdio.Stderr, err)
	}
	_, _ = io.WriteString(stdio.Stdout, "one\n")
	stdio.Close()
	awaitFile(t, filepath.Join(dir, "out"), "one\n")
}

func TestLoggingProgramsThatFail(t *testing.T) {
	for name, u := range map[string]string{
		"not there":    "binary:///no/such/program",
		"not ready":    program(t, "binary-v2", "exit 1", "").String(),
		"no URI":       "binary://%zz",
		"no file":      "binary://" + t.TempDir(),
		"v2 is silent": program(t, "binary-v2", "exec 5>&-; exec sleep 1000", "").String(),
	} {
		stdio, err := OpenStdio(t.Context(), URIs{Stdout: u})
		if err == nil || stdio.Stdout != nil {
			t.Errorf("%s: %v, %v", name, stdio.Stdout, err)
		}
	}
}
