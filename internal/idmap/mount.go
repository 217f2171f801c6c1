package idmap

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Namespace is a user namespace that has the mappings, which is how the kernel is
// told of them. There is no process in it; it is gone when the file is closed.
func (m Map) Namespace() (*os.File, error) {
	uids, gids := m.Lines()
	if len(uids) == 0 || len(gids) == 0 {
		return nil, fmt.Errorf("make a user namespace: no ids are mapped: %w", errdefs.ErrInvalidArgument)
	}
	// The kernel lets a child go on whose tracer, this thread, ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pidfd := -1
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"idmap"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ranges(uids), GidMappings: ranges(gids), GidMappingsEnableSetgroups: true,
		// It stops before its first instruction.
		Ptrace: true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd,
	}})
	if err != nil {
		return nil, fmt.Errorf("make a user namespace for %s (user.max_user_namespaces must not be 0): %w", m, err)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if ended := end(pidfd); err == nil && ended != nil {
		err = errors.Join(ended, ns.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("make a user namespace for %s: %w", m, err)
	}
	return ns, nil
}

func ranges(lines []Line) []syscall.SysProcIDMap {
	var all []syscall.SysProcIDMap
	for _, l := range lines {
		all = append(all, syscall.SysProcIDMap{ContainerID: int(l.From), HostID: int(l.To), Size: int(l.Count)})
	}
	return all
}

// end kills a child and waits for it. It names the child by the file alone: where
// orphans are reaped, its id may already be another's.
func end(pidfd int) error {
	err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	for waiting := true; waiting; {
		waiting = errors.Is(unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED, nil), unix.EINTR)
	}
	return errors.Join(err, unix.Close(pidfd))
}

// Set has the files of a detached copy of a mount shown under the owners that a
// namespace gives them; below extends that to the mounts below.
func Set(tree, namespace *os.File, below bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if below {
		flags |= unix.AT_RECURSIVE
	}
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(namespace.Fd())}
	switch err := unix.MountSetattr(int(tree.Fd()), "", flags, attr); {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("show %s under other owners: the file system (%s) cannot do that with this kernel (id-mapped mounts): %w", tree.Name(), kind(tree), errdefs.ErrNotImplemented)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("show %s under other owners: it is so already, or its file system belongs to a user namespace: %w", tree.Name(), err)
	case err != nil:
		return fmt.Errorf("show %s under other owners: %w", tree.Name(), err)
	}
	return nil
}

// kinds are file systems by their magic numbers, for messages.
var kinds = map[int64]string{
	unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.TMPFS_MAGIC: "tmpfs",
	unix.V9FS_MAGIC: "9p", unix.SMB2_SUPER_MAGIC: "smb", unix.CIFS_SUPER_MAGIC: "cifs", unix.RAMFS_MAGIC: "ramfs", unix.HUGETLBFS_MAGIC: "hugetlbfs",
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.CGROUP2_SUPER_MAGIC: "cgroup2", unix.EROFS_SUPER_MAGIC_V1: "erofs",
}

func kind(f *os.File) string {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return "unknown"
	}
	if name := kinds[fs.Type]; name != "" {
		return name
	}
	return fmt.Sprintf("type %#x", fs.Type)
}
