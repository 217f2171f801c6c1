package hosttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// skipped reports whether a test skips itself.
func skipped(t *testing.T, need func(testing.TB)) bool {
	t.Helper()
	was := false
	t.Run("probe", func(t *testing.T) {
		defer func() { was = t.Skipped() }()
		need(t)
	})
	return was
}

func TestNeeds(t *testing.T) {
	for name, need := range map[string]func(testing.TB){
		"a controller that is not there": func(t testing.TB) { NeedController(t, "none") },
		"owners mapped in proc":          func(t testing.TB) { NeedMappedOwners(t, "/proc") },
	} {
		if !skipped(t, need) {
			t.Errorf("%s: it goes on", name)
		}
	}
}

func TestNothingStays(t *testing.T) {
	skipped(t, NeedCgroups)
	for _, dir := range []string{cgroups, filepath.Join(cgroups, "memory")} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "dougong-probe-") {
				t.Errorf("%s is left in %s", e.Name(), dir)
			}
		}
	}
}
