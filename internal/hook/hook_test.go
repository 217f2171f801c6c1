package hook

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func shell(script string, args ...string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: append([]string{"sh", "-c", script}, args...)}
}

func state(bundle string) specs.State {
	spec := &specs.Spec{Annotations: map[string]string{"a": "b"}}
	return State("c1", bundle, 42, specs.StateCreating, spec)
}

func TestHookGetsStateEnvironmentAndDirectory(t *testing.T) {
	dir := t.TempDir()
	h := shell(`cat >state; echo "$A|$HOME|$0" >env`, "zero")
	h.Args[0] = "hook"
	h.Args = append(h.Args[:3:3], "zero")
	h.Env = []string{"A=1", "PATH=/bin:/usr/bin"}
	if err := Run(t.Context(), "createRuntime", []specs.Hook{h}, state(dir)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	var got specs.State
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := specs.State{
		Version: specs.Version, ID: "c1", Status: "creating", Pid: 42, Bundle: dir,
		Annotations: map[string]string{"a": "b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	env, _ := os.ReadFile(filepath.Join(dir, "env"))
	if string(env) != "1||zero\n" {
		t.Errorf("environment is %q: it is not the spec's alone", env)
	}
}

func TestHooksStopAtTheFirstFailure(t *testing.T) {
	dir := t.TempDir()
	h := []specs.Hook{shell("echo 1 >one"), shell("echo no room >&2; exit 3"), shell("echo 3 >three")}
	err := Run(t.Context(), "prestart", h, state(dir))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"prestart", "/bin/sh", "c1", "exit status 3", "no room"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 1 || filepath.Base(left[0]) != "one" {
		t.Errorf("hooks left %q", left)
	}
}

func TestHookTimeout(t *testing.T) {
	second := 1
	h := shell("while :; do :; done")
	h.Timeout = &second
	err := Run(t.Context(), "poststart", []specs.Hook{h}, state(t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), "1s") {
		t.Errorf("error = %v", err)
	}
}

func TestHookChildKeepsOutput(t *testing.T) {
	if err := Run(t.Context(), "poststop", []specs.Hook{shell("exec 0</dev/null; cat /dev/zero | head -c 100000; sleep 3 &")}, state(t.TempDir())); err != nil {
		t.Errorf("a child that stays in the background is an error: %v", err)
	}
}

func TestHookEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, "poststop", []specs.Hook{shell("exit 0")}, state(t.TempDir())); err == nil {
		t.Error("no error")
	}
}

func TestHookThatIsNotThere(t *testing.T) {
	err := Run(t.Context(), "createContainer", []specs.Hook{{Path: "/no/such/hook"}}, state(t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), "/no/such/hook") {
		t.Errorf("error = %v", err)
	}
}
