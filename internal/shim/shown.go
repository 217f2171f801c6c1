package shim

import (
	"log/slog"

	tasktypes "github.com/containerd/containerd/api/types/task"

	"dougong.dev/dougong/internal/sandbox"
	"dougong.dev/dougong/internal/standin"
)

// show gives the processes that are reported ids of the host, which callers of
// OCI commands expect: the first process has that of the proxy, the others have
// those of stand-ins that end by themselves. A process that has none is left
// out, as its id in the guest could be anybody's on the host.
func (x *proxy) show(c *sandbox.Container, root string, processes []*tasktypes.ProcessInfo) []*tasktypes.ProcessInfo {
	x.showing.Lock()
	defer x.showing.Unlock()
	x.hide()
	var known []*tasktypes.ProcessInfo
	for _, p := range processes[:min(len(processes), maxShown)] {
		if p.Pid == c.Init().PID() {
			known = append(known, p)
			continue
		}
		process := described(p.Info)
		one, err := standin.Spec{Args: process.Args, Root: root, UID: process.User.UID, GID: process.User.GID, Life: shownTime}.Start()
		if err != nil {
			slog.Warn("show process", "container", c.ID, "pid", p.Pid, "error", err)
			continue
		}
		x.shown = append(x.shown, one)
		p.Pid = uint32(one.PID())
		known = append(known, p)
	}
	return known
}

// hide ends what show has started.
func (x *proxy) hide() {
	for _, p := range x.shown {
		p.Kill()
	}
	x.shown = nil
}
