package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// DefaultParent is the cgroup in which sandboxes have theirs that nobody has
// named another for. The last one removes it.
const DefaultParent = "/dougong"

// ours is DefaultParent but in tests.
var ours = DefaultParent

// applyTries is how often a cgroup is made anew below a parent that others
// remove, as empty as it is, before ours is in it.
const applyTries = 1000

// apply makes the cgroup and moves this process into it.
func (g *Group) apply() error {
	for try := 1; ; try++ {
		err := g.manager.Apply(os.Getpid())
		if try == applyTries || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
}

// removeParents removes what is empty above cgroups that have gone, up to the
// parent that is ours. The kernel does not remove one that has others in it.
func removeParents(dirs []string) error {
	mounted, err := hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		top := filepath.Join(home(dir, "", mounted), ours)
		for above := filepath.Dir(dir); below(above, top); above = filepath.Dir(above) {
			if unix.Rmdir(above) != nil {
				break
			}
		}
	}
	return nil
}
