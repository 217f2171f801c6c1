package crio

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
// pods after it: their network, and two containers. It lives on although CRI-O ends
// all that it finds in the cgroup of that pod's monitor.
func TestPool(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		pool := suite.NewPool(t, poolConfig())
		pool.Serves(t, func(i int) {
			p := newPod(t, kind+"-pooled", nil)
			p.container("web", fmt.Sprintf("echo hello %d >/tmp/index.html; exec httpd -f -p 80 -h /tmp", i), nil)
			side := p.container("side", enclave.Sleeper, nil)
			p.said("side", "ready")
			out := strings.Fields(inside(t, side, "hostname; ip -o -4 addr show eth0 | awk '{print $4}'"))
			if len(out) != 2 || out[0] != "podname" || !strings.HasPrefix(out[1], "10.97.0.") {
				t.Fatalf("pod %d says %q", i, out)
			}
			address, _, _ := strings.Cut(out[1], "/")
			enclave.Serves(t, "http://"+address+"/index.html", fmt.Sprintf("hello %d\n", i))
			p.remove()
		})
	})
}
