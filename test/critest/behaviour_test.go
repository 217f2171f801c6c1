package critest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What a kubelet relies on, in one pod.
func TestBehaviour(t *testing.T) {
	c := newClient(t, "podsandbox", "overlayfs")
	pod, config := c.pod("pod", `"sysctls":{"net.core.somaxconn":"77","kernel.shmmax":"123456","vm.swappiness":"7"}`)
	for name, test := range map[string]func(t *testing.T, c *client, pod, config string){
		"exec": testExec, "grace": testGrace, "polite": testPolite, "log": testLog,
		"message": testMessage, "sysctls": testSysctls, "probe": testProbe, "streamed": testStreamed,
	} {
		t.Run(name, func(t *testing.T) {
			own := *c
			own.t = t
			test(t, &own, pod, config)
		})
	}
}

func testExec(t *testing.T, c *client, pod, config string) {
	t.Helper()
	id := c.container(pod, config, "exec", "", "while :; do sleep 1; done")
	if _, err := c.run("exec", "-s", id, "sh", "-c", "exit 7"); err == nil || !strings.Contains(err.Error(), "exited with 7") {
		t.Errorf("exit status 7 gives %v", err)
	}
	if out := c.ok("exec", id, "echo", "streamed"); out != "streamed" {
		t.Errorf("a streamed exec gives %q", out)
	}
}

// A probe has its time, and what it started is gone after that.
func testProbe(t *testing.T, c *client, pod, config string) {
	t.Helper()
	id := c.container(pod, config, "probe", "", "while :; do sleep 1; done")
	begin := time.Now()
	if _, err := c.run("exec", "-s", "--timeout", "1", id, "sleep", "4321"); err == nil || !strings.Contains(err.Error(), "timeout") && !strings.Contains(err.Error(), "DeadlineExceeded") {
		t.Errorf("a probe that takes too long gives %v", err)
	}
	if took := time.Since(begin); took < time.Second || took > 30*time.Second {
		t.Errorf("it was given up after %v", took)
	}
	c.eventually("the end of the probe", func() bool { return !strings.Contains(c.ok("exec", "-s", id, "ps"), "sleep 4321") })
}

// Exit codes and both streams come through a streamed exec, and input goes in.
func testStreamed(t *testing.T, c *client, pod, config string) {
	t.Helper()
	id := c.container(pod, config, "streamed", "", "while :; do sleep 1; done")
	out, err := c.run("exec", id, "sh", "-c", "echo out; echo err >&2; exit 9")
	if out != "out" || err == nil || !strings.Contains(err.Error(), "exit code 9") || !strings.Contains(err.Error(), "err") {
		t.Errorf("it gives %q, %v", out, err)
	}
	cmd := exec.Command(c.program, "-r", c.socket, "-i", c.socket, "exec", "-i", id, "wc", "-c")
	cmd.Stdin = strings.NewReader(strings.Repeat("x", 100000))
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "100000" {
		t.Errorf("input of 100000 bytes gives %q, %v", out, err)
	}
}

// A container that does not want to end gets TERM once, and KILL when its time
// is over.
func testGrace(t *testing.T, c *client, pod, config string) {
	t.Helper()
	id := c.container(pod, config, "grace", "", "trap 'echo TERM' TERM; echo up; while :; do sleep 0.1; done")
	c.eventually("the container is up", func() bool { return c.ok("logs", id) == "up" })
	begin := time.Now()
	c.ok("stop", "-t", "2", id)
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("it was stopped after %v", took)
	}
	if out := c.ok("logs", id); out != "up\nTERM" {
		t.Errorf("it has seen %q", out)
	}
	if code := c.exitCode(id); code != "137" {
		t.Errorf("exit code is %s", code)
	}
}

// One that ends by itself is not waited for any longer.
func testPolite(t *testing.T, c *client, pod, config string) {
	t.Helper()
	id := c.container(pod, config, "polite", "", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done")
	c.eventually("the container is up", func() bool { return c.ok("logs", id) == "up" })
	begin := time.Now()
	c.ok("stop", "-t", "60", id)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	if code, out := c.exitCode(id), c.ok("logs", id); code != "3" || out != "up\nbye" {
		t.Errorf("exit code is %s, log %q", code, out)
	}
}

func (c *client) exitCode(id string) string {
	c.t.Helper()
	return c.ok("inspect", "-o", "go-template", "--template", "{{.status.exitCode}}", id)
}

// Logs keep the order within a stream, and mark lines that go on.
func testLog(t *testing.T, c *client, pod, config string) {
	t.Helper()
	const script = "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; head -c 20000 /dev/zero | tr '\\\\0' x; echo; echo err >&2; printf end"
	id := c.container(pod, config, "log", "", script)
	c.eventually("the container ends", func() bool { return c.state(id) == "CONTAINER_EXITED" })
	data, err := os.ReadFile(filepath.Join(c.logDir, "log.log"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	errs := 0
	for line := range strings.Lines(string(data)) {
		parts := logLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if parts == nil {
			t.Fatalf("no line of a log: %q", line)
		}
		if parts[1] == "stderr" {
			errs++
			continue
		}
		lines = append(lines, parts[2]+" "+parts[3])
	}
	if errs != 1 || len(lines) != 200+2+1 {
		t.Fatalf("%d lines of output and %d of errors", len(lines), errs)
	}
	for i := range 200 {
		if want := fmt.Sprint("F line ", i); lines[i] != want {
			t.Fatalf("line %d is %q", i, lines[i])
		}
	}
	if long, rest := lines[200], lines[201]; long[0] != 'P' || rest[0] != 'F' || len(long)+len(rest) != 20000+4 {
		t.Errorf("a long line is in parts %.3q of %d and %.3q of %d", long, len(long), rest, len(rest))
	}
	if lines[202] != "P end" && lines[202] != "F end" {
		t.Errorf("the last line is %q", lines[202])
	}
}

var logLine = regexp.MustCompile(`^\S+ (stdout|stderr) (P|F) (.*)$`)

// A termination message is a file of the host.
func testMessage(t *testing.T, c *client, pod, config string) {
	t.Helper()
	host := c.file("message", "")
	spec := c.file("message.json", fmt.Sprintf(`{"metadata":{"name":"message"},"image":{"image":%q},"command":["sh","-c","echo gone wrong >/dev/termination-log; exit 1"],"mounts":[{"container_path":"/dev/termination-log","host_path":%q}],"linux":{}}`, busybox, host))
	id := c.ok("create", pod, spec, config)
	c.ok("start", id)
	c.eventually("the container ends", func() bool { return c.state(id) == "CONTAINER_EXITED" })
	if data, err := os.ReadFile(host); string(data) != "gone wrong\n" || err != nil {
		t.Errorf("message is %q, %v", data, err)
	}
}

// The kernel is the pod's own, so that no sysctl is unsafe.
func testSysctls(t *testing.T, c *client, pod, config string) {
	t.Helper()
	id := c.container(pod, config, "sysctls", "", "while :; do sleep 1; done")
	if out := c.ok("exec", "-s", id, "cat", "/proc/sys/net/core/somaxconn", "/proc/sys/kernel/shmmax", "/proc/sys/vm/swappiness"); out != "77\n123456\n7" {
		t.Errorf("sysctls are %q", out)
	}
}

// What a VM cannot share is refused with the reason, and leaves nothing.
func TestRefusals(t *testing.T) {
	eachSandboxer(t, func(t *testing.T, c *client) {
		for name, tt := range map[string]struct{ options, reason string }{
			"network": {`"network":2`, "hostNetwork"},
			"pid":     {`"pid":2`, "hostPID"},
			"ipc":     {`"ipc":2`, "hostIPC"},
		} {
			config := c.file(name+".json", fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"default","uid":%[1]q,"attempt":1},"linux":{"security_context":{"namespace_options":{%s}}}}`, name, tt.options))
			if out, err := c.run("runp", config); err == nil || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("the host's %s gives %q, %v", name, out, err)
			}
		}
		if left := c.processes(""); len(left) > 0 {
			t.Errorf("processes %v are left", left)
		}
	})
}
