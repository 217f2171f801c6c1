package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long anything may take on a busy machine.
const patience = 90 * time.Second

// container is one that a test works with.
type container struct {
	t          *testing.T
	id, bundle string
	spec       map[string]any
	out, errs  *stream
}

// newContainer makes a bundle whose process is a shell with a script.
func newContainer(t *testing.T, script string) *container {
	t.Helper()
	c := &container{t: t, id: "c-" + strings.ToLower(filepath.Base(t.Name())), bundle: t.TempDir()}
	if out, err := c.command("spec", "--bundle", c.bundle).CombinedOutput(); err != nil {
		t.Fatalf("spec: %v: %s", err, out)
	}
	data, err := os.ReadFile(c.config())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &c.spec); err != nil {
		t.Fatal(err)
	}
	c.spec["root"] = map[string]any{"path": suite.rootfs, "readonly": true}
	c.process()["terminal"] = false
	c.process()["args"] = []string{"sh", "-c", script}
	t.Cleanup(c.check)
	return c
}

func (c *container) config() string  { return filepath.Join(c.bundle, "config.json") }
func (c *container) pidFile() string { return filepath.Join(c.bundle, "pid") }

func (c *container) process() map[string]any { return c.spec["process"].(map[string]any) }

// write writes the spec.
func (c *container) write() {
	c.t.Helper()
	data, err := json.Marshal(c.spec)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(c.config(), data, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// command is the runtime's, with the flags that go before the verb.
func (c *container) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(suite.bin, "dougong"), append([]string{"--config", suite.config, "--log", c.log(), "--log-format", "json"}, args...)...)
	// What a verb starts must not hold up its caller.
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (c *container) log() string { return filepath.Join(c.bundle, "log.json") }

// run runs a verb and fails the test when it fails.
func (c *container) run(args ...string) string {
	c.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := c.command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("%s: %v: %s", args[0], err, &stderr)
	}
	return stdout.String()
}

// fails runs a verb that must fail, and returns what it says.
func (c *container) fails(args ...string) string {
	c.t.Helper()
	var stderr bytes.Buffer
	cmd := c.command(args...)
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil {
		c.t.Fatalf("%s: no error", args[0])
	}
	return stderr.String()
}

// stream is a pipe to which a container writes.
type stream struct {
	reader, writer *os.File
}

func newStream(t *testing.T) *stream {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return &stream{r, w}
}

// all reads until every writer has closed the pipe.
func (s *stream) all(t *testing.T) string {
	t.Helper()
	_ = s.reader.SetReadDeadline(time.Now().Add(patience))
	data, err := io.ReadAll(s.reader)
	if err != nil {
		t.Errorf("read output: %v, after %q", err, data)
	}
	return string(data)
}

// until reads until a text was seen.
func (s *stream) until(t *testing.T, text string) string {
	t.Helper()
	_ = s.reader.SetReadDeadline(time.Now().Add(patience))
	var seen []byte
	one := make([]byte, 1)
	for !bytes.Contains(seen, []byte(text)) {
		if _, err := s.reader.Read(one); err != nil {
			t.Fatalf("%q does not come: %v, after %q", text, err, seen)
		}
		seen = append(seen, one[0])
	}
	return string(seen)
}

// create makes the container with an input and pipes for its output.
func (c *container) create(input io.Reader, flags ...string) {
	c.t.Helper()
	c.write()
	c.out, c.errs = newStream(c.t), newStream(c.t)
	cmd := c.command(append(append([]string{"create", "--bundle", c.bundle, "--pid-file", c.pidFile()}, flags...), c.id)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, c.out.writer, c.errs.writer
	err := cmd.Run()
	_, _ = c.out.writer.Close(), c.errs.writer.Close()
	if err != nil {
		c.t.Fatalf("create: %v: %s", err, c.errs.all(c.t))
	}
}

// pid is what a pid file names.
func pid(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// reap waits for the end of a process that has become our child.
func reap(t *testing.T, pid int) unix.WaitStatus {
	t.Helper()
	type end struct {
		status unix.WaitStatus
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		var e end
		for {
			_, e.err = unix.Wait4(pid, &e.status, 0, nil)
			if !errors.Is(e.err, unix.EINTR) {
				break
			}
		}
		ended <- e
	}()
	select {
	case e := <-ended:
		if e.err != nil {
			t.Fatalf("wait for process %d: %v", pid, e.err)
		}
		return e.status
	case <-time.After(patience):
		t.Fatalf("process %d does not end", pid)
	}
	return 0
}

// state asks for the state of the container.
func (c *container) state() (s struct {
	Version     string `json:"ociVersion"`
	ID          string
	PID         int
	Status      string
	Bundle      string
	Annotations map[string]string
},
) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.run("state", c.id)), &s); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// check removes the container, if the test has left it, and looks for what is
// left of it.
func (c *container) check() {
	if out, err := c.command("delete", "--force", c.id).CombinedOutput(); err != nil {
		c.t.Errorf("delete: %v: %s", err, out)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		left := c.leftovers()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			c.t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *container) leftovers() []string {
	var left []string
	for _, glob := range []string{filepath.Join(suite.state, c.id), filepath.Join(suite.state, ".names", c.id), filepath.Join(suite.state, ".new-*")} {
		found, _ := filepath.Glob(glob)
		left = append(left, found...)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		line, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		root, _ := os.Readlink(filepath.Join(p, "root"))
		if bytes.Contains(line, []byte(filepath.Join(suite.state, c.id))) || bytes.Contains(line, []byte("\x00"+c.id+"\x00")) || root == suite.rootfs {
			left = append(left, fmt.Sprintf("process %s: %s", filepath.Base(p), bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	left = append(left, cgroupDirs(filepath.Join(cgroup(), "*"))...)
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, suite.state) {
			left = append(left, "mount: "+line)
		}
	}
	return left
}
