package cgroup

import (
	"testing"

	"github.com/moby/sys/mountinfo"
)

func TestControllerOf(t *testing.T) {
	for options, want := range map[string]string{
		"rw,cpu,cpuacct": "cpuacct", "rw,xattr,release_agent=/x,name=systemd": "name=systemd", "name=systemd,release_agent=/x": "name=systemd", "": "",
	} {
		if got := controllerOf(&mountinfo.Info{FSType: "cgroup", VFSOptions: options}); got != want {
			t.Errorf("%q: %q, want %q", options, got, want)
		}
	}
	if got := controllerOf(&mountinfo.Info{FSType: "cgroup2", VFSOptions: "rw,nsdelegate"}); got != "" {
		t.Errorf("version 2: %q", got)
	}
}

func TestHome(t *testing.T) {
	v1 := []hierarchy{{"/sys/fs/cgroup/cpu", "/", "cpu"}, {"/sys/fs/cgroup/cpuacct", "/", "cpuacct"}, {"/sys/fs/cgroup/unified", "/", ""}}
	v2 := []hierarchy{{"/sys/fs/cgroup", "/", ""}}
	// As in a container without a cgroup namespace.
	bound := []hierarchy{{"/sys/fs/cgroup/cpu", "/docker/abc", "cpu"}}
	for name, c := range map[string]struct {
		dir, own string
		mounted  []hierarchy
		want     string
	}{
		"version 1":           {"/sys/fs/cgroup/cpu/dougong/x", "/user", v1, "/sys/fs/cgroup/cpu/user"},
		"a longer name":       {"/sys/fs/cgroup/cpuacct/dougong/x", "/", v1, "/sys/fs/cgroup/cpuacct"},
		"version 2":           {"/sys/fs/cgroup/dougong/x", "/user.slice/a.scope", v2, "/sys/fs/cgroup/user.slice/a.scope"},
		"in a container":      {"/sys/fs/cgroup/cpu/dougong/x", "/docker/abc/d", bound, "/sys/fs/cgroup/cpu/d"},
		"not seen from here":  {"/sys/fs/cgroup/cpu/dougong/x", "/docker/other", bound, "/sys/fs/cgroup/cpu"},
		"above the namespace": {"/sys/fs/cgroup/dougong/x", "/../a", v2, "/sys/fs/cgroup"},
		"nothing mounted":     {"/sys/fs/cgroup/dougong/x", "/", nil, ""},
	} {
		if got := home(c.dir, c.own, c.mounted); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
