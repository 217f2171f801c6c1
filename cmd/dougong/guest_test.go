package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestKernelRoot wants the trimmed kernel where it was installed, then where
// it was built, and else the host's.
func TestKernelRoot(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if got := kernelRoot(bin); got != "/" {
		t.Errorf("without a trimmed kernel: %s", got)
	}
	for _, place := range []string{"kernel-trimmed/current", "lib/dougong/kernel"} {
		root := filepath.Join(dir, place)
		putKernel(t, filepath.Join(root, "boot"))
		if got := kernelRoot(bin); got != root {
			t.Errorf("got %s, want %s", got, root)
		}
	}
}

// putKernel writes what makes a trimmed kernel known as one.
func putKernel(t *testing.T, boot string) {
	t.Helper()
	if err := os.MkdirAll(boot, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"vmlinux-6.1.1-dougong": "", "config-6.1.1-dougong": "# CONFIG_MODULES is not set\n"} {
		if err := os.WriteFile(filepath.Join(boot, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
