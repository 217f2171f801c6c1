// Package holder keeps namespaces alive that the containers of a pod share
// and the VM's own cannot be: the pid namespace of pods that share one, and all
// of those with a user namespace.
//
// It owns the one process that does so. Which container joins what is not its
// matter.
package holder

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	api "dougong.dev/dougong/api/agent/v1"
)

// Arg makes this binary the process that holds namespaces.
const Arg = "hold-namespaces"

// name is what containers see as their pid 1.
const name = "pause"

// Holder starts the process on first use.
type Holder struct {
	// Binary is this program's file.
	Binary string

	mu  sync.Mutex
	pid int
}

// Hold returns the id of the process that holds the pod's namespaces.
func (h *Holder) Hold(r *api.HoldNamespacesRequest) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pid != 0 {
		return h.pid, nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("hold namespaces: %w", err)
	}
	defer null.Close()
	fd := null.Fd()
	pid, err := syscall.ForkExec(h.Binary, []string{name, Arg}, &syscall.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=1"}, Files: []uintptr{fd, fd, fd}, Sys: attributes(r),
	})
	if err != nil {
		return 0, fmt.Errorf("start the process that holds a pod's namespaces: %w", err)
	}
	h.pid = pid
	return pid, nil
}

// attributes are the namespaces to make. What a user namespace is to have a say
// in must belong to it.
func attributes(r *api.HoldNamespacesRequest) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWPID}
	if len(r.Uids) == 0 {
		return a
	}
	a.Cloneflags |= syscall.CLONE_NEWUSER | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	a.UidMappings, a.GidMappings = mappings(r.Uids), mappings(r.Gids)
	a.GidMappingsEnableSetgroups = true
	return a
}

func mappings(in []*api.IDMapping) []syscall.SysProcIDMap {
	var out []syscall.SysProcIDMap
	for _, m := range in {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(m.ContainerId), HostID: int(m.GuestId), Size: int(m.Size)})
	}
	return out
}

// Run is the whole life of the process: it ignores every signal, which has the
// kernel reap the orphans that fall to it, and waits for the end of the VM.
func Run() {
	signal.Ignore()
	for {
		_ = unix.Pause()
	}
}
