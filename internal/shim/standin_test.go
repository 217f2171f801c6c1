package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"dougong.dev/dougong/internal/standin"
)

func init() {
	if standin.Is() {
		runtime.LockOSThread()
	}
}

// TestMain lets the test binary be a stand-in, as the product's is.
func TestMain(m *testing.M) {
	if standin.Is() {
		status, err := standin.Main()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		os.Exit(status)
	}
	os.Exit(m.Run())
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may start a stand-in")
	}
}

func TestStandInWithoutARoot(t *testing.T) {
	bundle := t.TempDir()
	root, err := standInRoot(bundle, "")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if len(entries) != 0 || err != nil || filepath.Dir(root) != stateDir(bundle) {
		t.Errorf("root is %s with %v, %v", root, entries, err)
	}
	if given, err := standInRoot(bundle, "/a"); given != "/a" || err != nil {
		t.Errorf("root is %s, %v", given, err)
	}
}

// fileOf reads a file of a process.
func fileOf(t *testing.T, pid int, name string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Error(err)
	}
	return string(data)
}
