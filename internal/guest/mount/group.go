package mount

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Bits that a group needs to use files and directories; what is made in a
// directory then belongs to the group, too.
const (
	groupFile      = 0o660
	groupDirectory = unix.S_ISGID | 0o770
)

// giveTo gives everything below dir to a group, as the kubelet does with an
// fsGroup: not at all when the top directory has it, which therefore is last.
func giveTo(dir string, group uint32) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	var top unix.Stat_t
	if err := unix.Stat(dir, &top); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if top.Gid == group && top.Mode&groupDirectory == groupDirectory {
		return nil
	}
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		return giveOne(root, path, d.Type(), group)
	})
	return errors.Join(err, giveOne(root, ".", fs.ModeDir, group))
}

func giveOne(root *os.Root, path string, kind fs.FileMode, group uint32) error {
	if err := root.Lchown(path, -1, int(group)); err != nil {
		return err
	}
	if kind != fs.ModeDir && !kind.IsRegular() {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(root.Name(), path), &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	mode := st.Mode&0o7777 | groupFile
	if kind == fs.ModeDir {
		mode |= groupDirectory
	}
	return unix.Fchmodat(unix.AT_FDCWD, filepath.Join(root.Name(), path), mode, 0)
}
