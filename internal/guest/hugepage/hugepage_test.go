package hugepage

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	agent "dougong.dev/dougong/api/agent/v1"
)

// pool is what the kernel has for one size.
func pool(t *testing.T, dir, name, count string) string {
	t.Helper()
	file := filepath.Join(dir, name, "nr_hugepages")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(count+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	file := pool(t, dir, "hugepages-2048kB", "0")
	for _, count := range []uint64{4, 0} {
		if err := Reserve(dir, []*agent.HugePages{{Size: 2 << 20, Count: count}}); err != nil {
			t.Fatal(err)
		}
		if n, err := number(file); n != count || err != nil {
			t.Errorf("the pool has %d of %d, %v", n, count, err)
		}
	}
	if err := Reserve(dir, []*agent.HugePages{{Size: 1 << 30}}); err != nil {
		t.Errorf("none of a size that there is not: %v", err)
	}
	if err := Reserve(dir, []*agent.HugePages{{Size: 1 << 30, Count: 1}}); !errdefs.IsNotImplemented(err) {
		t.Errorf("a page of a size that there is not: %v", err)
	}
}

// The kernel takes less than it was asked for without a word.
func TestReserveTooMuch(t *testing.T) {
	dir := t.TempDir()
	file := pool(t, dir, "hugepages-2048kB", "3")
	// A device that takes everything stands for a pool that stays as it is.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(dir, "hugepages-2048kB", "nr_hugepages")
	if err := os.Symlink("/dev/null", full); err != nil {
		t.Fatal(err)
	}
	if err := Reserve(dir, []*agent.HugePages{{Size: 2 << 20, Count: 8}}); err == nil {
		t.Error("no error")
	}
}
