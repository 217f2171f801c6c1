package standin

import (
	"fmt"
	"runtime"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Users are the ids that there are in a user namespace.
type Users struct {
	UIDs, GIDs []syscall.SysProcIDMap
}

// UsersOf are those of the user namespace that a spec asks for, nil without one
// of the container's own. A namespace without a root is left out: nobody could
// prepare what is in it.
func UsersOf(spec *specs.Spec) *Users {
	if spec.Linux == nil {
		return nil
	}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type != specs.UserNamespace || ns.Path != "" {
			continue
		}
		u := &Users{UIDs: idMaps(uidMappings(spec)), GIDs: idMaps(gidMappings(spec))}
		if u.hasRoot() {
			return u
		}
	}
	return nil
}

func idMaps(mappings []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	var maps []syscall.SysProcIDMap
	for _, m := range mappings {
		maps = append(maps, syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)})
	}
	return maps
}

func (u *Users) hasRoot() bool {
	for _, maps := range [][]syscall.SysProcIDMap{u.UIDs, u.GIDs} {
		found := false
		for _, m := range maps {
			found = found || m.ContainerID == 0 && m.Size > 0
		}
		if !found {
			return false
		}
	}
	return true
}

// namespaces are those that the stand-in starts with.
func (s Spec) namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if s.Net == NewNet {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	if s.Apart {
		attr.Cloneflags |= unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	}
	if s.Users != nil {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = s.Users.UIDs, s.Users.GIDs, true
		attr.Credential = &syscall.Credential{}
	}
	return attr
}

// joins reports whether it is to be in a network namespace that is there.
func (s Spec) joins() bool { return s.Net != "" && s.Net != NewNet }

// begin calls start where the stand-in can get to its network namespace: one with
// users of its own is started in there, as it may not join.
func (s Spec) begin(start func() error) error {
	if !s.joins() || s.Users == nil {
		return start()
	}
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the network namespace: %w", err)
	}
	defer unix.Close(own)
	if err = joinNet(s.Net); err == nil {
		err = start()
	}
	// A thread that does not come back ends with its goroutine.
	if unix.Setns(own, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// ids are the user and the group as the stand-in sees them.
func (s Spec) ids() (uid, gid int) {
	if s.Users == nil {
		return int(s.UID), int(s.GID)
	}
	return inside(s.UID, s.Users.UIDs), inside(s.GID, s.Users.GIDs)
}

// inside is the id in a user namespace of one outside.
func inside(id uint32, maps []syscall.SysProcIDMap) int {
	for _, m := range maps {
		if at := int(id) - m.HostID; at >= 0 && at < m.Size {
			return m.ContainerID + at
		}
	}
	return int(id)
}

// rename gives the stand-in the host name of its container.
func (s Spec) rename() error {
	if s.Hostname == "" {
		return nil
	}
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("set host name %q: %w", s.Hostname, err)
	}
	return nil
}
