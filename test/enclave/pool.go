package enclave

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Pool is a pool of one machine, which whoever starts a container with its
// configuration makes.
type Pool struct{ program, config string }

// NewPool writes the configuration of a pool that ends with the test.
func (e Enclave) NewPool(t *testing.T, config string) Pool {
	t.Helper()
	if err := os.WriteFile(config, []byte("[pool]\nsize = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := Pool{program: filepath.Join(e.Bin, "dougong"), config: config}
	t.Cleanup(func() { p.run(t, "stop") })
	return p
}

func (p Pool) run(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(p.program, append([]string{"--config", p.config, "pool"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("pool %q: %v: %s", args, err, out)
	}
	return out
}

// Serves has containers run one after the other, and wants the first to start a
// keeper, and each of the others to find a machine that waits.
func (p Pool) Serves(t *testing.T, run func(i int)) {
	t.Helper()
	const times = 3
	var status struct {
		Waiting      []struct{ PID int }
		Hits, Misses int
	}
	for i := range times {
		run(i)
		Eventually(t, "a machine that waits", func() (string, bool) {
			out := p.run(t, "status", "--format", "json")
			status.Waiting = nil
			if err := json.Unmarshal(out, &status); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return string(out), len(status.Waiting) == 1
		})
	}
	if status.Hits != times-1 || status.Misses != 1 {
		t.Errorf("%d containers found a machine and %d did not, want %d and 1", status.Hits, status.Misses, times-1)
	}
}

// Gone waits until no path matches a pattern.
func Gone(t *testing.T, what, pattern string) {
	t.Helper()
	Eventually(t, what+" to go", func() (string, bool) {
		left, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(left...), len(left) == 0
	})
}
