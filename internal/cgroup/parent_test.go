package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// ownParent is a place whose parent is ours, for this test, in each hierarchy.
func ownParent(t *testing.T, name string) (p Place, parents []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may make cgroups")
	}
	was := ours
	ours = fmt.Sprintf("/dougong-parent-%d", os.Getpid())
	t.Cleanup(func() { ours = was })
	p = Place{Path: filepath.Join(ours, name)}
	mounted, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range mounted {
		parents = append(parents, filepath.Join(h.mountpoint, ours))
	}
	return p, parents
}

func there(parents []string) (n int) {
	for _, dir := range parents {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			n++
		}
	}
	return n
}

// TestParentGoes with the last cgroup in it, however deep that was.
func TestParentGoes(t *testing.T) {
	p, parents := ownParent(t, "deep/er")
	first := enter(t, p)
	second, err := newGroup(Place{Path: filepath.Join(ours, "second")}, t.TempDir())
	if err == nil {
		err = second.manager.Apply(-1)
	}
	if err != nil {
		t.Fatal(err)
	}
	n := there(parents)
	if err := first.Leave(); err != nil {
		t.Error(err)
	}
	if n == 0 || there(parents) != n {
		t.Errorf("a parent with another one in it is in %d hierarchies, before in %d", there(parents), n)
	}
	// What is left of one that was killed.
	dir := t.TempDir()
	if err := errors.Join(writeTrace(dir, second.manager.GetPaths()), Clear(dir)); err != nil {
		t.Error(err)
	}
	if n := there(parents); n != 0 {
		t.Errorf("the empty parent is in %d hierarchies", n)
	}
}

// TestOtherParentsStay: they are not ours.
func TestOtherParentsStay(t *testing.T) {
	g := enter(t, place(t))
	parent := filepath.Dir(g.manager.Path("memory"))
	if err := g.Leave(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(parent); err != nil {
		t.Errorf("the parent is gone: %v", err)
	}
}

// TestParentThatGoesMeanwhile: others remove the parent whenever it is empty,
// and no join fails over it.
func TestParentThatGoesMeanwhile(t *testing.T) {
	p, parents := ownParent(t, "meanwhile")
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		removed := 0
		defer func() { stopped <- removed }()
		for {
			for _, dir := range parents {
				if unix.Rmdir(dir) == nil {
					removed++
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for range 30 {
		g, err := Join(p, t.TempDir())
		if err != nil {
			t.Error(err)
			break
		}
		if g == nil {
			t.Log("there are no cgroups here that can be changed")
			break
		}
		if err := g.Leave(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	t.Logf("the parent was removed %d times", <-stopped)
	if n := there(parents); n != 0 {
		t.Errorf("the parent is left in %d hierarchies", n)
	}
}
