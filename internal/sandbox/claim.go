package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/agent"
	"dougong.dev/dougong/internal/cgroup"
	"dougong.dev/dougong/internal/pool"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/vmm"
)

// claim makes a machine of the pool the sandbox's own and reports whether it
// could. Whatever goes wrong, nothing of it is left, and the plan is as it was:
// the sandbox starts in another way.
func (s *Sandbox) claim(ctx context.Context, spec vmm.MachineSpec, plan *storage.Plan) bool {
	if s.opts.Pool == nil {
		return false
	}
	begin := time.Now()
	done := s.phase(ctx, "claim")
	m, err := s.claimMachine(ctx, spec)
	done()
	if err == nil {
		err = s.settleIn(ctx, m, spec, func() error { return s.network.rewire(ctx, m.Queues()) })
	}
	if err == nil {
		plan.UseSerials(qemu.DiskSerial)
		slog.InfoContext(ctx, "machine of the pool running", "sandbox", s.opts.ID, "claim_took", time.Since(begin))
		return true
	}
	s.network.unwire()
	level := slog.LevelWarn
	if _, miss := errors.AsType[*pool.MissError](err); miss {
		level = slog.LevelInfo
	}
	slog.Log(ctx, level, "no machine of the pool is used", "sandbox", s.opts.ID, "error", firstLine(err))
	return false
}

// claimMachine takes a machine out of the pool, whose guest is stopped.
func (s *Sandbox) claimMachine(ctx context.Context, spec vmm.MachineSpec) (*qemu.Machine, error) {
	kind, ok, err := Kind(s.opts, spec)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &pool.MissError{Reason: "this machine can only be made for its sandbox"}
	}
	lot, err := s.opts.Pool.Claim(ctx, kind)
	if errdefs.IsNotFound(err) {
		s.want(kind)
	}
	if err != nil {
		return nil, err
	}
	// The name is in QEMU's own command line; ours is for errors.
	return qemu.Adopt(s.opts.QEMU, spec, lot.PID, lot.Files)
}

// want tells a keeper that is only coming up what it will be asked for.
func (s *Sandbox) want(kind pool.Kind) {
	ctx, cancel := context.WithCancel(context.Background())
	s.releases.push(cancel)
	go func() {
		if err := s.opts.Pool.Want(ctx, kind); err != nil {
			slog.Debug("tell the pool's keeper what is wanted", "sandbox", s.opts.ID, "error", err)
		}
	}()
}

// settleIn gives a machine that was claimed or copied what is the sandbox's own and lets it go on.
// wire connects its network meanwhile, nil where it is. After an error nothing of
// the machine is left.
func (s *Sandbox) settleIn(ctx context.Context, m *qemu.Machine, spec vmm.MachineSpec, wire func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.opts.BootTimeout/cloneShare,
		fmt.Errorf("the machine did not answer within %v", s.opts.BootTimeout/cloneShare))
	defer cancel()
	// To move a tap is waiting for the kernel, mostly.
	wired := make(chan error, 1)
	if wire == nil {
		wired <- nil
	} else {
		go func() { wired <- wire() }()
	}
	done := s.phase(ctx, "outfit")
	err := s.takeIn(m.PID())
	if err == nil {
		err = outfit(ctx, m, spec)
	}
	done()
	var client *agent.Client
	if err == nil {
		client, err = s.meet(ctx, m, spec.Shares)
	}
	err = errors.Join(err, s.awaitNetwork(ctx, wired))
	if err == nil {
		s.adopt(m, client)
		return nil
	}
	if client != nil {
		_ = client.Close()
	}
	err = explainEnd(m, err)
	m.Kill()
	return err
}

// awaitNetwork waits until taps are where they belong.
func (s *Sandbox) awaitNetwork(ctx context.Context, wired <-chan error) error {
	if s.network != nil {
		defer s.phase(ctx, "network")()
	}
	return <-wired
}

// takeIn puts a process that another has started where a child of this one would
// be: into the sandbox's cgroup, and as likely a victim when memory is short.
func (s *Sandbox) takeIn(pid int) error {
	join := s.group.Add
	if s.group == nil {
		join = cgroup.Bring
	}
	if err := join(pid); err != nil {
		return err
	}
	const score = "oom_score_adj"
	own, err := os.ReadFile("/proc/self/" + score)
	if err == nil {
		err = os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, score), own, 0)
	}
	if err != nil {
		return fmt.Errorf("make the machine as likely a victim as this process: %w", err)
	}
	return nil
}

// outfit puts disks and ports in their places and lets the guest go on.
func outfit(ctx context.Context, m *qemu.Machine, spec vmm.MachineSpec) error {
	for i, d := range spec.Disks {
		if err := m.ReplaceDisk(ctx, i, d); err != nil {
			return err
		}
	}
	for _, n := range spec.NICs {
		if n.User == nil {
			continue
		}
		for _, f := range n.User.Forwards {
			if err := m.AddForward(ctx, n.ID, f); err != nil {
				return err
			}
		}
	}
	return m.Continue(ctx)
}
