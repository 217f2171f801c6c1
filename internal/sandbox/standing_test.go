package sandbox

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// What stands for a pod ends by the signals that end a pause container, and
// only once.
func TestStandingEndsBySignals(t *testing.T) {
	tests := []struct {
		signals []unix.Signal
		status  uint32
	}{
		{[]unix.Signal{unix.SIGKILL}, 137},
		{[]unix.Signal{unix.SIGTERM}, 0},
		{[]unix.Signal{unix.SIGINT, unix.SIGKILL}, 0},
		{[]unix.Signal{unix.SIGHUP, unix.SIGCHLD, unix.SIGKILL}, 137},
	}
	for _, tt := range tests {
		s := newStanding(nil)
		for _, signal := range tt.signals {
			if _, err := s.Kill(t.Context(), &task.KillRequest{Signal: uint32(signal)}); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := s.Wait(t.Context(), &task.WaitRequest{})
		if err != nil || resp.ExitStatus != tt.status || resp.ExitedAt == nil {
			t.Errorf("after %v: %v, %v", tt.signals, resp, err)
		}
	}
}

func TestStandingRunsUntilTheSandboxEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan struct{})
		s := newStanding(gone)
		ended := make(chan error, 1)
		go func() {
			_, err := s.Wait(t.Context(), &task.WaitRequest{})
			ended <- err
		}()
		if _, err := s.Kill(t.Context(), &task.KillRequest{Signal: uint32(unix.SIGUSR1)}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("it ends by itself: %v", err)
		default:
		}
		close(gone)
		if err := <-ended; !errors.Is(err, errMachineEnded) {
			t.Errorf("at the end of the sandbox: %v", err)
		}
	})
}

func TestStandingHasNoProcess(t *testing.T) {
	s := newStanding(nil)
	if _, err := s.Exec(t.Context(), &task.ExecProcessRequest{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("exec gives %v", err)
	}
	if r, err := s.Pids(t.Context(), &task.PidsRequest{}); err != nil || len(r.Processes) != 0 {
		t.Errorf("processes are %v, %v", r, err)
	}
	if r, err := s.Stats(t.Context(), &task.StatsRequest{}); err != nil || r.Stats.GetTypeUrl() != "io.containerd.cgroups.v2.Metrics" {
		t.Errorf("metrics are %v, %v", r, err)
	}
}
