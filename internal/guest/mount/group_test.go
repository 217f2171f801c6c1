package mount

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestGiveTo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	for _, path := range []string{filepath.Join(dir, "sub/file"), outside} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := giveTo(dir, 1234); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]uint32{
		dir: unix.S_IFDIR | 0o2775, filepath.Join(dir, "sub"): unix.S_IFDIR | 0o2770, filepath.Join(dir, "sub/file"): unix.S_IFREG | 0o660,
		filepath.Join(dir, "link"): unix.S_IFLNK | 0o777,
	} {
		if st := lstat(t, path); st.Mode != want || st.Gid != 1234 {
			t.Errorf("%s is %o of group %d, want %o", path, st.Mode, st.Gid, want)
		}
	}
	if st := lstat(t, outside); st.Mode != unix.S_IFREG|0o600 || st.Gid == 1234 {
		t.Errorf("a file elsewhere is %o of group %d", st.Mode, st.Gid)
	}
	// What has the group is left as it is.
	if err := os.Chmod(filepath.Join(dir, "sub/file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := giveTo(dir, 1234); err != nil {
		t.Fatal(err)
	}
	if st := lstat(t, filepath.Join(dir, "sub/file")); st.Mode != unix.S_IFREG|0o600 {
		t.Errorf("once more: the file is %o", st.Mode)
	}
}

func lstat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}
