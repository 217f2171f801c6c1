package idmap

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/hosttest"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("id-mapped mounts need root")
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func namespace(t *testing.T, m Map) *os.File {
	t.Helper()
	ns, err := m.Namespace()
	check(t, err)
	t.Cleanup(func() { check(t, ns.Close()) })
	return ns
}

// copyOf is a detached copy of the mount of a directory.
func copyOf(t *testing.T, dir string) *os.File {
	t.Helper()
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	check(t, err)
	f := os.NewFile(uintptr(fd), dir)
	t.Cleanup(func() { check(t, f.Close()) })
	return f
}

// owner is that of a file in a copy of a mount.
func owner(t *testing.T, tree *os.File, name string) [2]uint32 {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Fstatat(int(tree.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW))
	return [2]uint32{st.Uid, st.Gid}
}

// mapped is a copy of a directory's mount with its owners mapped.
func mapped(t *testing.T, dir string, m Map) *os.File {
	t.Helper()
	hosttest.NeedMappedOwners(t, dir)
	tree := copyOf(t, dir)
	check(t, Set(tree, namespace(t, m), false))
	return tree
}

func TestSet(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for name, ids := range map[string][2]int{"root": {0, 0}, "user": {33, 34}, "beyond": {70000, 70001}} {
		check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		check(t, os.Chown(filepath.Join(dir, name), ids[0], ids[1]))
	}
	check(t, os.Chmod(dir, 0o777))
	tree := mapped(t, dir, parsed(t, "0:100000:65536", "0:200000:65536"))
	for name, want := range map[string][2]uint32{"root": {100000, 200000}, "user": {100033, 200034}, "beyond": {Nobody, Nobody}} {
		if got := owner(t, tree, name); got != want {
			t.Errorf("%s belongs to %v, want %v", name, got, want)
		}
	}
	// What is made there has the owner that is mapped to who makes it.
	as(t, 100005, 200006, func() error {
		fd, err := unix.Openat(int(tree.Fd()), "new", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}, nil)
	var st unix.Stat_t
	check(t, unix.Stat(filepath.Join(dir, "new"), &st))
	if st.Uid != 5 || st.Gid != 6 {
		t.Errorf("on the disk it belongs to %d:%d", st.Uid, st.Gid)
	}
	// Root outside has no name there.
	as(t, 0, 0, func() error {
		_, err := unix.Openat(int(tree.Fd()), "no", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		return err
	}, unix.EOVERFLOW)
}

// as has f called with the ids of another, as a file sharing daemon does, on a
// thread that is thrown away.
func as(t *testing.T, uid, gid uintptr, f func() error, want error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSGID, gid, 0, 0)
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uid, 0, 0)
		done <- f()
	}()
	if err := <-done; !errors.Is(err, want) {
		t.Errorf("as %d:%d: %v, want %v", uid, gid, err, want)
	}
}

// A mount is mapped once, and only where its file system can do that.
func TestSetRefuses(t *testing.T) {
	needRoot(t)
	m := parsed(t, "0:1000:10", "0:1000:10")
	ns := namespace(t, m)
	err := Set(copyOf(t, "/proc"), ns, false)
	if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "show /proc under other owners: the file system (proc)") {
		t.Errorf("proc gives %v", err)
	}
	tree := mapped(t, t.TempDir(), m)
	if err := Set(tree, ns, false); err == nil || !strings.Contains(err.Error(), "it is so already") {
		t.Errorf("once more gives %v", err)
	}
	if _, err := (Map{}).Namespace(); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no mapping gives %v", err)
	}
}

// Of making a namespace no process is left, and its mappings are as they were told.
func TestNamespace(t *testing.T) {
	needRoot(t)
	ns := namespace(t, parsed(t, "0:1000:10,20:30:5", "0:2000:10"))
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("a child is left: %d, %v", pid, err)
	}
	cmd := exec.Command("nsenter", "--user=/proc/self/fd/3", "cat", "/proc/self/uid_map", "/proc/self/gid_map")
	cmd.ExtraFiles = []*os.File{ns}
	out, err := cmd.CombinedOutput()
	if got := strings.Join(strings.Fields(string(out)), " "); got != "0 1000 10 20 30 5 0 2000 10" || err != nil {
		t.Errorf("ids are mapped as %q, %v", got, err)
	}
}
