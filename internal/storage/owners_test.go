package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/hosttest"
	"dougong.dev/dougong/internal/idmap"
)

var someOwners = idmap.Map{UIDs: "0:100000:65536", GIDs: "0:200000:65536"}

// The owners that a snapshotter wants are those of what the host mounts, or of what
// the guest does.
func TestPlanOwners(t *testing.T) {
	options := []string{"uidmap=0:100000:65536", "gidmap=0:200000:65536"}
	p, err := New(Request{
		ContainerID: "c1", Rootfs: []Mount{{Type: "overlay", Source: "overlay", Options: append(slices.Clone(options), "lowerdir=/l/1:/l/2", "upperdir=/u")}},
		Binds: []Bind{{Source: "/data", Owners: someOwners, OwnersBelow: true}},
	})
	want := []Entry{
		{Name: "c1/rootfs-0", Mount: Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/l/1:/l/2", "upperdir=/u"}}, Owners: someOwners},
		{Name: "c1/bind-0", Mount: Mount{Type: "bind", Source: "/data"}, Owners: someOwners, OwnersBelow: true},
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, p.Entries); diff != "" {
		t.Error(diff)
	}
	top := overlay(append(slices.Clone(options), "workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir={{ overlay 0 1 }}")...)
	view := Mount{Type: "format/bind", Source: "{{ mount 0 }}", Options: append(slices.Clone(options), "ro")}
	for name, rootfs := range map[string][]Mount{"overlay": {layer("2"), layer("1"), top}, "view": {layer("1"), view}} {
		p, err := New(Request{ContainerID: "c1", Rootfs: rootfs})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, lower := range p.Rootfs.Lowers {
			want := erofs(i)
			want.Uids, want.Gids = []*agentapi.IDMapping{{GuestId: 100000, Size: 65536}}, []*agentapi.IDMapping{{GuestId: 200000, Size: 65536}}
			if diff := cmp.Diff(want, lower, protocmp.Transform()); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	for _, bad := range [][]Mount{
		{{Type: "bind", Source: "/l", Options: []string{"uidmap=0:1:2"}}},
		{layer("1"), overlay("uidmap=x", "gidmap=0:1:2", "lowerdir={{ mount 0 }}")},
		{layer("1"), {Type: "format/bind", Source: "{{ mount 0 }}", Options: []string{"ro", "gidmap=0:1:2"}}},
	} {
		if _, err := New(Request{ContainerID: "c1", Rootfs: bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v gives %v", bad, err)
		}
	}
}

// owner is that of a file.
func owner(t *testing.T, path string) [2]uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return [2]uint32{st.Uid, st.Gid}
}

// add adds an entry of a host that can map owners.
func add(t *testing.T, tree *Tree, e Entry) {
	t.Helper()
	hosttest.NeedMappedOwners(t, os.TempDir())
	if err := tree.Add(e); err != nil {
		t.Fatal(err)
	}
}

func TestMappedBind(t *testing.T) {
	tree, dir := newTree(t), t.TempDir()
	write(t, filepath.Join(dir, "file"), "x")
	if err := os.Chown(filepath.Join(dir, "file"), 5, 6); err != nil {
		t.Fatal(err)
	}
	for i, readOnly := range []bool{false, true} {
		e := bind(fmt.Sprintf("c1/bind-%d", i), dir, readOnly, true)
		e.Owners = someOwners
		add(t, tree, e)
		shared := filepath.Join(tree.Dir(), e.Name, "file")
		if got := owner(t, shared); got != [2]uint32{100005, 200006} {
			t.Errorf("the file belongs to %v", got)
		}
		if err := overwrite(shared); errors.Is(err, unix.EROFS) != readOnly {
			t.Errorf("writing gives %v", err)
		}
	}
	if len(tree.owners) != 1 {
		t.Errorf("there are %d namespaces for one mapping", len(tree.owners))
	}
	if got := owner(t, filepath.Join(dir, "file")); got != [2]uint32{5, 6} {
		t.Errorf("the source now belongs to %v", got)
	}
}

// What is mounted below a directory keeps its owners unless the mapping is for it,
// too; where it cannot be mapped, that is told.
func TestMappedBelow(t *testing.T) {
	tree, dir := newTree(t), source(t)
	e := bind("c1/bind-0", dir, false, true)
	e.Owners = someOwners
	add(t, tree, e)
	at := filepath.Join(tree.Dir(), e.Name)
	if top, below := owner(t, filepath.Join(at, "file")), owner(t, filepath.Join(at, "sub/file")); top != [2]uint32{100000, 200000} || below != [2]uint32{} {
		t.Errorf("the files belong to %v and %v", top, below)
	}
	e.Name, e.OwnersBelow = "c1/bind-1", true
	add(t, tree, e)
	if below := owner(t, filepath.Join(tree.Dir(), e.Name, "sub/file")); below != [2]uint32{100000, 200000} {
		t.Errorf("the file below belongs to %v", below)
	}
	e = bind("c1/bind-2", "/proc/sys", false, false)
	e.Owners = someOwners
	if err := tree.Add(e); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "show /proc/sys under other owners: the file system (proc)") {
		t.Errorf("a file system without mappings gives %v", err)
	}
}

func TestMappedOverlay(t *testing.T) {
	tree, base := newTree(t), t.TempDir()
	for _, d := range []string{"1/fs", "2/fs", "3/fs", "3/work"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(base, "1/fs/one"), "one")
	write(t, filepath.Join(base, "2/fs/two"), "two")
	// As the snapshotter does.
	if err := os.Chown(filepath.Join(base, "3/fs"), 100000, 200000); err != nil {
		t.Fatal(err)
	}
	e := Entry{Name: "c1/rootfs-0", Owners: someOwners, Mount: Mount{Type: "overlay", Source: "overlay", Options: []string{
		"index=off", "workdir=" + base + "/3/work", "upperdir=" + base + "/3/fs", "lowerdir=" + base + "/2/fs:" + base + "/1/fs",
	}}}
	add(t, tree, e)
	root := filepath.Join(tree.Dir(), e.Name)
	for name, text := range map[string]string{"one": "One", "two": "Owo"} {
		if got := owner(t, filepath.Join(root, name)); got != [2]uint32{100000, 200000} {
			t.Errorf("%s belongs to %v", name, got)
		}
		if err := overwrite(filepath.Join(root, name)); err != nil || content(filepath.Join(root, name)) != text {
			t.Errorf("writing gives %v and %q", err, content(filepath.Join(root, name)))
		}
		if got := owner(t, filepath.Join(base, "3/fs", name)); got != [2]uint32{100000, 200000} {
			t.Errorf("in the upper directory %s belongs to %v", name, got)
		}
	}
	if content(filepath.Join(base, "1/fs/one")) != "one" {
		t.Error("a lower directory was written to")
	}
	if left, err := os.ReadDir(filepath.Dir(tree.Dir())); len(left) != 1 || err != nil {
		t.Errorf("beside the tree there are %v, %v", left, err)
	}
	if left := mountsBelow(t, filepath.Dir(tree.Dir())); len(left) != 2 {
		t.Errorf("mounts are %v, want the tree's own and the overlay", left)
	}
}

func TestMappedRefusals(t *testing.T) {
	tree := newTree(t)
	for want, m := range map[string]Mount{
		"is no clean absolute path": {Type: "overlay", Options: []string{"lowerdir=l"}},
		"have nothing in common":    {Type: "overlay", Options: []string{"lowerdir=/bin:/etc"}},
		"mount tmpfs with owners":   {Type: "tmpfs", Source: "x"},
		"take /none for the share":  {Type: "overlay", Options: []string{"lowerdir=/none/1:/none/2"}},
	} {
		err := tree.Add(Entry{Name: "c1/rootfs-0", Owners: someOwners, Mount: m})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if left := mountsBelow(t, filepath.Dir(tree.Dir())); len(left) != 1 {
		t.Errorf("mounts are left: %v", left)
	}
}

// The kernel takes a page of options; images have up to 127 layers.
func TestOverlayOfManyLayers(t *testing.T) {
	tree, base := newTree(t), filepath.Join(t.TempDir(), strings.Repeat("long", 20))
	var lowers []string
	for i := range 100 {
		dir := filepath.Join(base, fmt.Sprint(i), "fs")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, fmt.Sprint("file-", i)), "x")
		lowers = append(lowers, dir)
	}
	for i, owners := range []idmap.Map{{}, someOwners} {
		e := Entry{Name: fmt.Sprintf("c1/rootfs-%d", i), Owners: owners, ReadOnly: true, Mount: Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + strings.Join(lowers, ":")}}}
		add(t, tree, e)
		if names, err := os.ReadDir(filepath.Join(tree.Dir(), e.Name)); len(names) != 100 || err != nil {
			t.Errorf("with owners %q there are %d files, %v", owners, len(names), err)
		}
	}
}
