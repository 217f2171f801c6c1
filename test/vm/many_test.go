package vm

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// TestManyAtOnce starts many containers of one image at the same time, in an
// image store that does not have it yet.
func TestManyAtOnce(t *testing.T) {
	in := installAlone(t)
	in.configure("storage.root="+quote(in.mkdir("store")), "vm.boot_timeout=\"2m\"")
	n := 6
	if suite.long {
		n = 20
	}
	results := make([]result, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			results[i] = in.dougong("run", "--rm", "--memory", "256m", busybox(), "echo", fmt.Sprint("number ", i))
		})
	}
	all.Wait()
	for i, r := range results {
		if r.code != 0 || r.stdout != fmt.Sprintf("number %d\n", i) {
			t.Error(r)
		}
	}
	if left := leftInStore(in.path("store")); len(left) > 0 {
		t.Errorf("left in the store: %q", left)
	}
}

// TestLoop runs one container after the other and looks what each left.
func TestLoop(t *testing.T) {
	in := install(t)
	n := 10
	if suite.long {
		n = 50
	}
	share := in.mkdir("share")
	before := temporaryFiles(t)
	for i := range n {
		if out := in.must("run", "--rm", "-v", share+":/share", busybox(), "echo", "done"); out != "done" {
			t.Fatalf("run %d: %q", i, out)
		}
		// Not even for a moment: the command has returned.
		if left := leftovers(in); len(left) > 0 {
			t.Fatalf("run %d left behind: %q", i, left)
		}
	}
	if after := temporaryFiles(t); after > before {
		t.Errorf("%d files of ours in the temporary directory, %d before", after, before)
	}
}

// temporaryFiles counts what looks like ours in the temporary directory.
func temporaryFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if name := e.Name(); len(name) > 7 && name[:7] == "dougong" {
			n++
		}
	}
	return n
}
