package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeRuntime is a runtime of a few lines, first in PATH.
func fakeRuntime(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

const goodRuntime = `
[ "$1" = spec ] && { echo '{"process":{"args":["sh"],"terminal":true,"cwd":"/"},"root":{"path":"rootfs"},"x":1}' > config.json; exit; }
echo "$@" >> "$LOG"
case $3 in
run) grep -q '"args":\["true"\]' "$5/config.json" && grep -q '"terminal":false' "$5/config.json" && grep -q '"x":1' "$5/config.json" ;;
esac
`

func TestRivals(t *testing.T) {
	l := testLab(t)
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("LOG", log)
	fakeRuntime(t, "runc", goodRuntime)
	fakeRuntime(t, "crun", goodRuntime+"[ $3 = delete ] || { echo refused here >&2; exit 1; }")
	fakeRuntime(t, "runsc", "exit 2")
	out := newSeries()
	rivals, err := l.rivals(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	if len(rivals) != 1 || rivals[0].row != rowRunc {
		t.Errorf("ready: %+v; missing: %q", rivals, out.missing)
	}
	if why := out.missing[rowCrun]; !strings.Contains(why, "refused here") {
		t.Errorf("crun is missing: %q", why)
	}
	if why := out.missing[rowRunsc]; !strings.Contains(why, "exit status 2") {
		t.Errorf("runsc is missing: %q", why)
	}
	if took, err := rivals[0].run(t.Context()); err != nil || !(took > 0) {
		t.Errorf("took %v, %v", took, err)
	}
	calls, _ := os.ReadFile(log)
	if n := strings.Count(string(calls), "delete --force"); n != 1 {
		t.Errorf("%d clean-ups, want one after the failure:\n%s", n, calls)
	}
}

func TestRivalThatIsNotInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	r := &rival{row: "nosuch"}
	if err := r.prepare(t.Context(), t.TempDir(), "/rootfs"); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("error %v", err)
	}
}

func TestAdaptSpecRefuses(t *testing.T) {
	for _, content := range []string{"", "[]", "{}", `{"process":3}`} {
		if err := adaptSpec(writeFile(t, "config.json", content), "/r"); err == nil {
			t.Errorf("%q is taken for a spec", content)
		}
	}
}
