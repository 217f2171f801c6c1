package containerinit

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"testing"
	"time"
)

// waitGone waits until a process has left /proc, which only being reaped does.
func waitGone(t *testing.T, proc string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		if _, err := os.Stat(proc); errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	t.Fatalf("%s is still there: the orphan was not reaped", proc)
}
