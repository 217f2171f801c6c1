package oci

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestKataAnnotations has the names of Kata's annotations mean something once the
// configuration says so, and nothing without.
func TestKataAnnotations(t *testing.T) {
	plain := suite.config
	t.Cleanup(func() { suite.config = plain })
	text, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	switched := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(switched, bytes.Replace(text, []byte("[runtime]\n"), []byte("[runtime]\nkata_annotations = true\n"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	const show = `nproc; grep -o 'old\.name=[a-z]*' /proc/cmdline || echo none; awk '/MemTotal/ {print ($2 > 300000) ? "much" : "little"}' /proc/meminfo`
	for config, want := range map[string]string{switched: "2\nold.name=known\nmuch\n", plain: "1\nnone\nlittle\n"} {
		suite.config = config
		c := newContainer(t, show)
		c.spec["annotations"] = map[string]string{
			"io.katacontainers.config.hypervisor.default_vcpus":   "1.5",
			"io.katacontainers.config.hypervisor.default_memory":  "512",
			"io.katacontainers.config.hypervisor.kernel_params":   "old.name=known",
			"io.katacontainers.config.hypervisor.virtio_fs_cache": "never",
		}
		c.create(nil)
		c.run("start", c.id)
		reap(t, pid(t, c.pidFile()))
		if got := c.out.all(t); got != want {
			t.Errorf("with %s the machine is %q, want %q", filepath.Base(config), got, want)
		}
		c.run("delete", c.id)
	}
}
