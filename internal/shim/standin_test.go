package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestMain lets the test binary be a stand-in, as the product's is.
func TestMain(m *testing.M) {
	if IsStandIn(os.Args) {
		fmt.Fprintln(os.Stderr, StandIn(os.Args))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestStandInHasTheRootOfItsContainer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may change the root directory")
	}
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "mark"), []byte("container"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := startStandIn("c1", root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	if got, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/mark", s.PID())); string(got) != "container" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestStandInThatCannotStart(t *testing.T) {
	if s, err := startStandIn("c1", "/no/such/root"); err == nil {
		s.Kill()
		t.Error("no error")
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
