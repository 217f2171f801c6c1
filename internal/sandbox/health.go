package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	agentapi "dougong.dev/dougong/api/agent/v1"
)

// guard asks the guest now and then whether it is well, and ends the sandbox
// when no answer comes: a guest that hangs would hold its containers for ever.
func (s *Sandbox) guard() {
	limit := s.opts.HealthTimeout
	if limit == 0 {
		return
	}
	ask := func(ctx context.Context) error {
		_, err := s.client.VM.Info(ctx, &agentapi.InfoRequest{})
		return err
	}
	if !answers(ask, limit, s.lost) {
		s.fail(fmt.Errorf("the guest has not answered for %v (vm.health_timeout)", limit))
	}
}

// answers asks until done is closed, and reports whether there was always an
// answer within limit, if only an error.
func answers(ask func(context.Context) error, limit time.Duration, done <-chan struct{}) bool {
	pause := time.NewTicker(limit)
	defer pause.Stop()
	for {
		select {
		case <-done:
			return true
		case <-pause.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		err := ask(ctx)
		late := ctx.Err() != nil
		cancel()
		if err != nil {
			slog.Debug("ask the guest", "error", err)
		}
		if err != nil && late {
			return false
		}
	}
}
