package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// example prepares a script of examples/ as people would run it: with dougong
// in PATH, this installation's configuration, and an image that is here.
func (in *installation) example(stdin, name string, args ...string) result {
	in.t.Helper()
	script, err := filepath.Abs(filepath.Join("../../examples", name))
	if err != nil {
		in.t.Fatal(err)
	}
	cmd := in.command(args...)
	cmd.Path, cmd.Args = script, append([]string{script}, args...)
	cmd.Env = append(os.Environ(), "PATH="+suite.bin+":"+os.Getenv("PATH"), "DOUGONG_CONFIG="+in.config, "IMAGE="+busybox())
	return in.finishAs(cmd, strings.NewReader(stdin), args)
}

func TestExampleCIRunner(t *testing.T) {
	in := install(t)
	sources, results := in.mkdir("sources"), in.mkdir("results")
	in.writeFile("sources/build", "id -u && echo built > /results/it && ! touch /src/x 2> /dev/null && test -z \"$(ip route)\" && exit 7\n")
	r := in.example("", "ci-runner/run-job", sources, results, "sh", "build")
	if r.code != 7 || r.stdout != "0\n" {
		t.Errorf("want the job's own exit status, 7, and user 0: %v", r)
	}
	if made, err := os.ReadFile(filepath.Join(results, "it")); err != nil || string(made) != "built\n" {
		t.Errorf("result %q, %v", made, err)
	}
	if r := in.example("", "ci-runner/run-job", sources); r.code != 64 {
		t.Errorf("want the usage: %v", r)
	}
}

func TestExampleFunctions(t *testing.T) {
	in := install(t)
	function := in.mkdir("function")
	handler := in.writeFile("function/handler", "#!/bin/sh\nread who && test ! -e /tmp/seen && touch /tmp/seen && echo \"hello $who\"\n")
	if err := os.Chmod(handler, 0o755); err != nil {
		t.Fatal(err)
	}
	// Twice, since nothing may be left of the first call.
	for _, who := range []string{"world", "moon"} {
		if r := in.example(who+"\n", "functions/invoke", function); r.code != 0 || r.stdout != "hello "+who+"\n" {
			t.Errorf("want a greeting of %s: %v", who, r)
		}
	}
	if r := in.example("", "functions/invoke", function); r.code != 1 {
		t.Errorf("want the failure of a handler without an event: %v", r)
	}
}

func TestExampleGeneratedCode(t *testing.T) {
	in := install(t)
	const script = `id -u; touch /x 2> /dev/null || echo read-only; touch /tmp/x && echo scratch
ip route; grep CapEff /proc/self/status; exit 3
`
	const want = "65534\nread-only\nscratch\nCapEff:\t0000000000000000\n"
	if r := in.example(script, "generated-code/run-generated"); r.code != 3 || r.stdout != want {
		t.Errorf("want %q: %v", want, r)
	}
	// One that never ends is ended, with its machine.
	began := time.Now()
	if r := in.example("echo begun; while :; do :; done", "generated-code/run-generated", "15"); r.code != 124 {
		t.Errorf("want 124 after its time: %v", r)
	}
	if took := time.Since(began); took < 15*time.Second {
		t.Errorf("it was ended after %v", took)
	}
	if left := in.list(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

func TestExampleNoVirtualization(t *testing.T) {
	in := install(t, `vm.accelerator="tcg"`)
	r := in.example("", "no-virtualization/show")
	host, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	_, kernel, found := strings.Cut(r.stdout, "kernel of the container: ")
	if r.code != 0 || !strings.Contains(r.stdout, "tcg: emulation was asked for") || !found || kernel == string(host) {
		t.Errorf("want tcg and another kernel than %s: %v", host, r)
	}
}

// TestExamplesAreTested wants a test here for each directory of examples/; that
// of Kubernetes has its own in test/critest.
func TestExamplesAreTested(t *testing.T) {
	entries, err := os.ReadDir("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("examples_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "kubernetes-tenants" && !strings.Contains(string(source), `, "`+e.Name()+"/") {
			t.Errorf("examples/%s has no test", e.Name())
		}
	}
}
