package volume

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"

	agentapi "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
	"dougong.dev/dougong/internal/mounttest"
)

func emptyDir(t *testing.T) (pod, dir string) {
	t.Helper()
	pod = filepath.Join(t.TempDir(), "pods/0a1b")
	dir = filepath.Join(pod, "volumes/kubernetes.io~empty-dir/cache")
	check(t, os.MkdirAll(dir, 0o755))
	return pod, dir
}

func TestMemoryOf(t *testing.T) {
	mounttest.Need(t)
	_, dir := emptyDir(t)
	if m, _, ok := MemoryOf(dir); ok {
		t.Errorf("a plain directory is %+v", m)
	}
	mountAt(t, "tmpfs", dir, "size=4m,mode=2770,gid=12")
	want := Memory{Size: 4 << 20, Mode: 0o2770, GID: 12}
	m, volume, ok := MemoryOf(dir + "/")
	if diff := cmp.Diff(want, m); diff != "" || volume != dir || !ok {
		t.Errorf("%s %v %s", volume, ok, diff)
	}
	// What somebody has put there is to be seen in the guest.
	check(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	if _, _, ok := MemoryOf(dir); ok {
		t.Error("a volume that is in use counts as empty")
	}
}

func TestMemoryOfPlainFileSystems(t *testing.T) {
	mounttest.Need(t)
	_, dir := emptyDir(t)
	// The directory is in a tmpfs, but not one of its own.
	mountAt(t, "tmpfs", filepath.Dir(dir), "")
	check(t, os.Mkdir(dir, 0o755))
	if _, _, ok := MemoryOf(dir); ok {
		t.Error("a directory of somebody's tmpfs counts as a volume in memory")
	}
	mountAt(t, "ramfs", dir, "")
	if _, _, ok := MemoryOf(dir); ok {
		t.Error("any file system counts as one in memory")
	}
}

func TestHugePages(t *testing.T) {
	mounttest.Need(t)
	_, dir := emptyDir(t)
	if err := unix.Mount("hugetlbfs", dir, "hugetlbfs", 0, "pagesize=2M"); err != nil {
		t.Skip("no huge pages here:", err)
	}
	t.Cleanup(func() { check(t, unix.Unmount(dir, 0)) })
	m, _, ok := MemoryOf(dir)
	if !ok || m.PageSize != 2<<20 {
		t.Errorf("%+v, %v", m, ok)
	}
	want := &agentapi.Mount{Type: "hugetlbfs", Source: "hugetlbfs", Target: "/v", Options: []string{"nodev", "mode=0755", "uid=0", "gid=0", "pagesize=2097152"}}
	if diff := cmp.Diff(want, m.Mount("/v", 1<<30), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestSubPathsOfMemory(t *testing.T) {
	mounttest.Need(t)
	pod, dir := emptyDir(t)
	mountAt(t, "tmpfs", dir, "")
	check(t, os.MkdirAll(filepath.Join(dir, "a dir/b"), 0o700), os.Chown(filepath.Join(dir, "a dir/b"), 5, 6))
	sub := filepath.Join(pod, "volume-subpaths/cache/app/0")
	check(t, os.MkdirAll(sub, 0o755))
	if _, _, ok := MemoryOf(sub); ok {
		t.Error("a directory that nothing is bound to counts as part of a volume")
	}
	check(t, unix.Mount(filepath.Join(dir, "a dir/b"), sub, "", unix.MS_BIND, ""))
	t.Cleanup(func() { check(t, unix.Unmount(sub, 0)) })
	m, volume, ok := MemoryOf(sub)
	if !ok || volume != dir || m.SubPath != "a dir/b" {
		t.Fatalf("%+v of %s, %v", m, volume, ok)
	}
	changes := m.Directories(volume, idmap.Map{UIDs: "0:1000:10", GIDs: "0:2000:10"})
	if len(changes) != 2 || changes[0].Path != "a dir" || changes[1].Path != "a dir/b" || changes[1].Uid != 1005 || changes[1].Gid != 2006 || changes[1].Mode != 0o700 || !changes[1].Missing {
		t.Errorf("%v", changes)
	}
}

func TestMountIsBounded(t *testing.T) {
	for _, tt := range []struct {
		size, most uint64
		want       string
	}{{1 << 20, 1 << 30, "size=1048576"}, {1 << 40, 1 << 30, "size=1073741824"}, {1 << 20, 0, "size=1048576"}} {
		options := Memory{Size: tt.size, Mode: 0o1777}.Mount("/v", tt.most).Options
		if got := options[len(options)-1]; got != tt.want || options[1] != "mode=1777" {
			t.Errorf("%+v gives %v", tt, options)
		}
	}
}

func TestRootOf(t *testing.T) {
	const table = `36 35 98:0 /mnt1 /sub rw - ext4 /dev/root rw
37 35 98:1 / /a\040dir rw - tmpfs tmpfs rw
38 35 98:2 /x\040y /sub rw - tmpfs tmpfs rw
39 35 98:2 /gone//deleted /gone rw - tmpfs tmpfs rw
odd
`
	for path, want := range map[string]string{"/sub": "x y", "/a dir": ""} {
		if got, ok := rootOf(table, path); got != want || !ok {
			t.Errorf("%s shows %q, %v", path, got, ok)
		}
	}
	for _, path := range []string{"/none", "/gone"} {
		if got, ok := rootOf(table, path); ok {
			t.Errorf("%s shows %q", path, got)
		}
	}
}
