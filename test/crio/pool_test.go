package crio

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dougong.dev/dougong/test/enclave"
)

// poolConfig is the configuration of the runtimes that keep a pool.
func poolConfig() string { return below("pool.toml") }

// wrappers are runtimes with that configuration, of which CRI-O can tell neither
// kind: each is a program that goes on as one of ours.
func wrappers() error {
	for name, script := range map[string]string{
		"dougong":                    `exec "%s" --config "%s" "$@"`,
		"containerd-shim-dougong-v2": `DOUGONG_CONFIG="%[2]s" exec "%[1]s" "$@"`,
	} {
		path := below("pooled/" + name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		text := "#!/bin/sh\n" + fmt.Sprintf(script, filepath.Join(suite.Bin, name), poolConfig()) + "\n"
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// TestPool has the first pod of a kind start a keeper, whose machines serve the
// pods after it: their network, and two containers.
func TestPool(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		pool := suite.NewPool(t, poolConfig())
		pool.Serves(t, func(i int) {
			p := newPod(t, kind+"-pooled", nil)
			p.container("web", fmt.Sprintf("echo hello %d >/tmp/index.html; exec httpd -f -p 80 -h /tmp", i), nil)
			side := p.container("side", enclave.Sleeper, nil)
			p.said("side", "ready")
			if got, want := inside(t, side, "wget -q -O - http://127.0.0.1/index.html; ping -c 1 -W 10 10.97.0.1 >/dev/null && hostname"), fmt.Sprintf("hello %d\npodname", i); got != want {
				t.Errorf("pod %d says %q, want %q", i, got, want)
			}
			p.remove()
		})
		enclave.Gone(t, "the pods' cgroups", "/sys/fs/cgroup/*/pods/*/cgroup.procs")
	})
}
