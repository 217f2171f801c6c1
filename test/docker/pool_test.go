package docker

import (
	"path/filepath"
	"testing"

	"dougong.dev/dougong/test/enclave"
)

// TestPool has 'docker run' start a keeper, whose machines serve the containers
// after the first one, on a network that Docker fills by a hook.
func TestPool(t *testing.T) {
	if newDaemon() {
		t.Skip("it is about a runtime by its path, which the older Docker is tested with")
	}
	pool := suite.NewPool(t, filepath.Join(suite.Base, "pool.toml"))
	if _, err := docker.Run("network", "create", "--subnet", "10.94.0.0/24", "pooled"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = docker.Run("network", "rm", "pooled") })
	pool.Serves(t, func(i int) {
		out, err := docker.Run("run", "--rm", "--runtime", "pooled", "--network", "pooled", "busybox", "sh", "-c", "ip -o -4 addr show eth0 | awk '{print $4}'; ping -c 1 -W 10 10.94.0.1 >/dev/null && echo answers")
		if want := "10.94.0.2/24\nanswers"; out != want || err != nil {
			t.Errorf("run %d says %q, %v, want %q", i, out, err, want)
		}
	})
	enclave.Gone(t, "the containers' cgroups", "/sys/fs/cgroup/*/docker/*/cgroup.procs")
	if entries, err := filepath.Glob(filepath.Join(suite.Base, "exec", "*", "moby", ".pool")); len(entries) > 0 || err != nil {
		t.Errorf("there is a pool of Docker's own: %q, %v", entries, err)
	}
}
