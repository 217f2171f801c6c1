package cpu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// arrivals lets one more thing happen after each look that was in vain.
type arrivals []func()

func (a *arrivals) Await(_ context.Context, try func() (bool, error)) error {
	for {
		if ok, err := try(); ok || err != nil {
			return err
		}
		if len(*a) == 0 {
			return context.DeadlineExceeded
		}
		(*a)[0]()
		*a = (*a)[1:]
	}
}

// machine is a sysfs with CPUs: "1", "0", or "" for one without a switch.
func machine(t *testing.T, states ...string) (sys string, add func(name, state string)) {
	sys = t.TempDir()
	add = func(name, state string) {
		dir := filepath.Join(sys, "devices/system/cpu", name)
		if err := os.MkdirAll(filepath.Join(dir, "topology"), 0o755); err != nil {
			t.Fatal(err)
		}
		if state == "" {
			return
		}
		if err := os.WriteFile(filepath.Join(dir, "online"), []byte(state+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range states {
		add("cpu"+string(rune('0'+i)), s)
	}
	add("cpufreq", "0")
	return sys, add
}

func state(t *testing.T, sys, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(sys, "devices/system/cpu", name, "online"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestUse(t *testing.T) {
	sys, add := machine(t, "", "0")
	later := arrivals{func() {}, func() { add("cpu10", "0") }, func() { add("cpu2", "0") }}
	if err := Use(t.Context(), &later, sys, 4); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cpu1", "cpu2", "cpu10"} {
		if state(t, sys, name) != "1" {
			t.Errorf("%s is not switched on", name)
		}
	}
	if state(t, sys, "cpufreq") != "0" {
		t.Error("what is no CPU was switched on")
	}
	if err := Use(t.Context(), new(arrivals), sys, 2); err != nil {
		t.Fatal(err)
	}
	if got := state(t, sys, "cpu1") + state(t, sys, "cpu2") + state(t, sys, "cpu10"); got != "100" {
		t.Errorf("with two CPUs the switches are %s", got)
	}
}

func TestUseOfWhatDoesNotCome(t *testing.T) {
	sys, _ := machine(t, "", "1")
	if err := Use(t.Context(), new(arrivals), sys, 3); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	for _, n := range []uint32{0, 1 << 30} {
		if err := Use(t.Context(), new(arrivals), sys, n); err == nil || !strings.Contains(err.Error(), "want 1 to") {
			t.Errorf("%d CPUs give %v", n, err)
		}
	}
}
