package sandbox

import (
	"context"
	"log/slog"
	"time"
)

// phase logs how long a phase of a start took, when the returned function is
// called. The phases of one start make up a small waterfall in the log.
func (s *Sandbox) phase(ctx context.Context, name string) func() {
	begin := time.Now()
	return func() {
		slog.DebugContext(ctx, "phase", "sandbox", s.opts.ID, "phase", name, "took", time.Since(begin))
	}
}
