package sandbox

import (
	"context"
	"iter"
	"log/slog"
	"time"

	agentapi "dougong.dev/dougong/api/agent/v1"
)

// oomPause is the least time between two reports of kills.
const oomPause = 100 * time.Millisecond

// OOMs yields whenever the guest's kernel has killed processes of the
// container for want of memory, and ends with the container. What it yields is
// how many were killed so far.
func (c *Container) OOMs() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		if c.tasks != nil {
			return
		}
		var seen uint64
		for {
			resp, err := c.sandbox.client.VM.WaitOOM(context.Background(), &agentapi.WaitOOMRequest{Id: c.ID, Seen: seen})
			if err != nil {
				slog.Debug("wait for kills", "container", c.ID, "error", err)
				<-c.init.Exited()
				return
			}
			if resp.GetCount() > seen && !yield(resp.GetCount()) || resp.GetEnded() {
				return
			}
			seen = max(seen, resp.GetCount())
			// A guest that makes kills up must not keep everybody busy.
			<-time.After(oomPause)
		}
	}
}
