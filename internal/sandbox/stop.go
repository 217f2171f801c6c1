package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	agentapi "dougong.dev/dougong/api/agent/v1"
)

var (
	errStopped      = errors.New("the sandbox was stopped")
	errMachineEnded = errors.New("the virtual machine ended")
	errConnection   = errors.New("the connection to the guest agent was lost")
)

// watch waits for the end of the VM, whoever brings it about.
func (s *Sandbox) watch() {
	var daemonDone <-chan struct{}
	if s.daemon != nil {
		daemonDone = s.daemon.Done()
	}
	var cause error
	select {
	case <-s.machine.Done():
		cause = s.machineError()
	case <-s.client.Done():
		// The line breaks a moment before the VMM is gone. Its own account
		// says more, so let it speak first.
		s.waitMachine()
		cause = s.machineError()
		if cause == nil {
			cause = errConnection
		}
	case <-daemonDone:
		cause = s.daemonError()
	}
	s.fail(cause)
}

// daemonError says how the sandbox ended whose file sharing daemon is gone. A
// daemon that ended well did so because the VMM went first.
func (s *Sandbox) daemonError() error {
	if err := s.daemon.Err(); err != nil {
		return fmt.Errorf("the file sharing daemon is gone: %w", err)
	}
	s.waitMachine()
	return orElse(s.machineError(), errMachineEnded)
}

// blameDaemon adds the death of the file sharing daemon to an error of the
// start, which it is then the reason for.
func (s *Sandbox) blameDaemon(err error) error {
	if s.daemon == nil {
		return err
	}
	select {
	case <-s.daemon.Done():
	default:
		return err
	}
	if cause := s.daemon.Err(); cause != nil {
		return fmt.Errorf("the file sharing daemon is gone: %w; then: %w", cause, err)
	}
	return err
}

// machineError says how the VMM ended, nil when the guest powered itself off.
func (s *Sandbox) machineError() error {
	select {
	case <-s.machine.Done():
		return s.machine.Err()
	default:
		return nil
	}
}

// waitMachine gives the VMM a bounded time to end.
func (s *Sandbox) waitMachine() {
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.StopTimeout)
	defer cancel()
	select {
	case <-s.machine.Done():
	case <-ctx.Done():
	}
}

// fail ends the sandbox: processes are told, then everything is given back.
// The first cause stays.
func (s *Sandbox) fail(cause error) {
	if !s.life.to(Stopped) {
		return
	}
	s.mu.Lock()
	if s.stopping {
		cause = nil
	}
	s.cause = cause
	s.mu.Unlock()
	if cause != nil {
		slog.Error("sandbox ended", "sandbox", s.opts.ID, "error", cause)
	}
	close(s.lost)
	s.entering.Lock()
	s.entering.Unlock() //nolint:staticcheck // Who comes later sees that the sandbox has stopped.
	s.releases.unwind()
	close(s.done)
}

// Stop ends the VM, after the guest has written back what outlives it if it
// does so in time, and waits until everything is gone.
func (s *Sandbox) Stop(ctx context.Context) {
	s.mu.Lock()
	again, lasting := s.stopping, s.lasting
	s.stopping = true
	s.mu.Unlock()
	if again {
		<-s.done
		return
	}
	if lasting && s.life.get() == Running {
		s.settleGuest(ctx)
	}
	s.fail(nil)
	<-s.done
}

// ending reports whether the sandbox has ended or is about to.
func (s *Sandbox) ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping || s.life.get() != Running
}

// settleGuest has the guest end its processes and bring what outlives it to
// where it belongs: dirty pages of disks and shares. There is no more for it to
// do: the VMM is ended then, which takes a tenth of the time in which an
// emulated guest turns off one device after the other.
func (s *Sandbox) settleGuest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.StopTimeout)
	defer cancel()
	if _, err := s.client.VM.Shutdown(ctx, &agentapi.ShutdownRequest{}); err != nil {
		slog.Warn("guest did not shut down, killing the VM", "sandbox", s.opts.ID, "error", err)
	}
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func logError(what, id string, err error) {
	if err != nil {
		slog.Warn(what, "sandbox", id, "error", err)
	}
}
