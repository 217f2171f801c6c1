package volume

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
)

func TestStats(t *testing.T) {
	dir, target := DirectDir(t.TempDir()), t.TempDir()
	check(t, os.MkdirAll(dir, 0o700))
	if _, err := AskStats(dir, target); !errdefs.IsNotFound(err) {
		t.Errorf("nobody has it: %v", err)
	}
	want := Stats{Capacity: 1 << 40, Used: 2, Available: 3, Inodes: 4, InodesUsed: 5}
	var gone atomic.Bool
	var grown atomic.Uint64
	served := Served{Stats: func(context.Context) (Stats, error) {
		if gone.Load() {
			return Stats{}, errors.New("the guest is gone")
		}
		s := want
		s.Capacity += grown.Load()
		return s, nil
	}, Grow: func(context.Context) error { grown.Add(7); return nil }}
	stop, err := Serve(dir, target, served)
	check(t, err)
	if got, err := AskStats(dir, target+"/"); got != want || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := AskGrow(dir, target); got.Capacity != want.Capacity+7 || err != nil {
		t.Errorf("grown it is %+v, %v", got, err)
	}
	gone.Store(true)
	if _, err := AskStats(dir, target); err == nil || !strings.Contains(err.Error(), "the guest is gone") {
		t.Errorf("error is %v", err)
	}
	// A sandbox that was killed leaves its socket.
	gone.Store(false)
	grown.Store(0)
	again, err := Serve(dir, target, served)
	check(t, err)
	if got, err := AskStats(dir, target); got != want || err != nil {
		t.Errorf("from the next there is %+v, %v", got, err)
	}
	again()
	stop()
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("left are %v, %v", left, err)
	}
}
