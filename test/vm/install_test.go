package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// installation is dougong with a configuration and a state directory that
// belong to one test.
type installation struct {
	t *testing.T
	// dir holds all that belongs to this installation; every process of it
	// has a file below dir open, or names dir on its command line.
	dir, state, config string
}

// commandTimeout ends a command that hangs; an emulated boot takes seconds.
const commandTimeout = 3 * time.Minute

// install makes an installation for a test that runs beside others.
func install(t *testing.T, settings ...string) *installation {
	t.Helper()
	t.Parallel()
	return installAlone(t, settings...)
}

// installAlone makes an installation for a test that runs alone, or for a
// subtest. Settings are "section.key=value" with the value in TOML.
func installAlone(t *testing.T, settings ...string) *installation {
	t.Helper()
	in := &installation{t: t, dir: filepath.Join(suite.base, fmt.Sprint(nextNumber()))}
	in.state, in.config = filepath.Join(in.dir, "state"), filepath.Join(in.dir, "config.toml")
	// Registered first, so that it runs last.
	t.Cleanup(func() { leakCheck(in) })
	for _, dir := range []string{in.dir, in.state} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{kernelFile, initrdFile} {
		if err := os.Link(filepath.Join(suite.base, name), filepath.Join(in.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	in.configure(settings...)
	suite.slots <- struct{}{}
	t.Cleanup(func() { <-suite.slots })
	t.Cleanup(in.removeAll)
	return in
}

// configure writes the configuration: this installation's paths, and settings
// over them.
func (in *installation) configure(settings ...string) {
	in.t.Helper()
	defaults := []string{
		"vm.kernel=" + quote(filepath.Join(in.dir, kernelFile)),
		"vm.initrd=" + quote(filepath.Join(in.dir, initrdFile)),
		"vm.memory_mib=256",
		"storage.root=" + quote(suite.storage),
		"template.memory_mib=0",
		"runtime.state=" + quote(in.state),
		"cgroup.parent=" + quote(in.cgroup()),
		`runtime.log_level="debug"`,
	}
	values, names := map[string]string{}, []string{}
	for _, s := range append(defaults, settings...) {
		name, value, _ := strings.Cut(s, "=")
		if _, known := values[name]; !known {
			names = append(names, name)
		}
		values[name] = value
	}
	var b strings.Builder
	for _, name := range names {
		// Dotted keys stand for sections.
		fmt.Fprintf(&b, "%s = %s\n", name, values[name])
	}
	if err := os.WriteFile(in.config, []byte(b.String()), 0o644); err != nil {
		in.t.Fatal(err)
	}
}

func quote(s string) string { return fmt.Sprintf("%q", s) }

// path makes a directory for the test's own files.
func (in *installation) path(name string) string {
	in.t.Helper()
	path := filepath.Join(in.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		in.t.Fatal(err)
	}
	return path
}

// mkdir makes a directory that everybody may write to.
func (in *installation) mkdir(name string) string {
	in.t.Helper()
	path := in.path(name)
	if err := os.Mkdir(path, 0o777); err != nil {
		in.t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		in.t.Fatal(err)
	}
	return path
}

func (in *installation) writeFile(name, content string) string {
	in.t.Helper()
	path := in.path(name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		in.t.Fatal(err)
	}
	return path
}

// busybox is the reference of an image with a shell.
func busybox() string { return "oci:" + suite.busybox }

// result is how a command ended and what it printed.
type result struct {
	args           []string
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("dougong %s\nexit code %d\nstdout: %s\nstderr: %s", strings.Join(r.args, " "), r.code, clip(r.stdout), clip(r.stderr))
}

func clip(s string) string {
	const most = 4000
	if len(s) > most {
		return s[:most/2] + " … " + s[len(s)-most/2:]
	}
	return s
}

// command prepares a dougong command; it is killed when it hangs.
func (in *installation) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	in.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(suite.bin, "dougong"), append([]string{"--config", in.config}, args...)...)
	cmd.Dir = in.dir
	// A child that keeps our pipes must not hold the test up for ever.
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// dougong runs a command to its end.
func (in *installation) dougong(args ...string) result {
	in.t.Helper()
	return in.with(nil, args...)
}

// with runs a command with this standard input.
func (in *installation) with(stdin io.Reader, args ...string) result {
	in.t.Helper()
	return in.finish(in.command(args...), stdin)
}

func (in *installation) finish(cmd *exec.Cmd, stdin io.Reader) result {
	in.t.Helper()
	return in.finishAs(cmd, stdin, cmd.Args[3:])
}

// finishAs runs a command that messages tell by these arguments.
func (in *installation) finishAs(cmd *exec.Cmd, stdin io.Reader, args []string) result {
	in.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := cmd.Run()
	r := result{args: args, code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		in.t.Errorf("%v: %v", r, err)
	}
	return r
}

// must runs a command that has to succeed and returns its standard output
// without the last newline.
func (in *installation) must(args ...string) string {
	in.t.Helper()
	r := in.dougong(args...)
	if r.code != 0 {
		in.t.Fatalf("want success:\n%v", r)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// wantError checks that a command failed with this code and said these words.
func (r result) wantError(t *testing.T, code int, words ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("want exit code %d:\n%v", code, r)
	}
	for _, word := range words {
		if !strings.Contains(r.stderr, word) {
			t.Errorf("want %q in the message:\n%v", word, r)
		}
	}
}

// container is a container as 'ps --format json' and 'inspect' describe it.
type container struct {
	ID, Name, Image, State string
	PID                    int
	Command, Ports         []string
	Labels                 map[string]string
	StopSignal, StateDir   string
	Exit                   *struct {
		Status int
		Error  string
	}
}

// list returns all containers.
func (in *installation) list() []container {
	in.t.Helper()
	var all []container
	if err := json.Unmarshal([]byte(in.must("ps", "-a", "--format", "json")), &all); err != nil {
		in.t.Fatal(err)
	}
	return all
}

func (in *installation) inspect(name string) container {
	in.t.Helper()
	var all []container
	if err := json.Unmarshal([]byte(in.must("inspect", name)), &all); err != nil {
		in.t.Fatal(err)
	}
	return all[0]
}

// removeAll removes what a failed test left, after showing it. A test that
// went well has removed everything itself.
func (in *installation) removeAll() {
	if !in.t.Failed() {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(in.state, "*", "sandbox.log"))
	for _, path := range logs {
		data, _ := os.ReadFile(path)
		in.t.Logf("%s:\n%s", path, clip(string(data)))
	}
	entries, _ := os.ReadDir(in.state)
	for _, e := range entries {
		if e.Name()[0] != '.' {
			_ = in.command("rm", "-f", e.Name()).Run()
		}
	}
}

// eventually waits until a state that is bound to come is there.
func eventually(t *testing.T, what string, there func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(90 * time.Second)
	for !there() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never came to this: %s", what)
		}
	}
}
