package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dougong.dev/dougong/internal/guest/stdio"
)

// events writes a memory.events of so many kills and returns its cgroup.
func events(t *testing.T, dir string, kills string) cgroup {
	t.Helper()
	content := "low 0\nhigh 0\nmax 9\noom 1\noom_kill " + kills + "\noom_group_kill 0\n"
	if err := os.WriteFile(filepath.Join(dir, "memory.events"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return cgroup(dir)
}

func oomService(c cgroup) (*Service, *container) {
	one := &container{id: "c", cgroup: c, init: newProcess("", stdio.Spec{}, nil, "", "")}
	one.init.pid = 1
	return &Service{containers: map[string]*container{"c": one}}, one
}

func TestOOMThatWasThereBefore(t *testing.T) {
	s, _ := oomService(events(t, t.TempDir(), "2"))
	count, ended, err := s.WaitOOM(t.Context(), "c", 1)
	if count != 2 || ended || err != nil {
		t.Errorf("got %d, %v, %v", count, ended, err)
	}
}

func TestOOMThatComes(t *testing.T) {
	dir := t.TempDir()
	s, _ := oomService(events(t, dir, "0"))
	done := make(chan uint64)
	go func() {
		count, _, _ := s.WaitOOM(t.Context(), "c", 0)
		done <- count
	}()
	// However late the watch is set up, one of these is seen.
	for n := 0; ; n++ {
		events(t, dir, "1")
		select {
		case count := <-done:
			if count != 1 {
				t.Errorf("got %d", count)
			}
			return
		case <-time.After(10 * time.Millisecond):
			if n > 1000 {
				t.Fatal("the change is not noticed")
			}
		}
	}
}

func TestOOMOfTheEnd(t *testing.T) {
	s, c := oomService(events(t, t.TempDir(), "0"))
	c.init.stop(137)
	if count, ended, err := s.WaitOOM(t.Context(), "c", 0); count != 0 || !ended || err != nil {
		t.Errorf("got %d, %v, %v", count, ended, err)
	}
	if _, _, err := s.WaitOOM(t.Context(), "other", 0); err == nil {
		t.Error("a container that is not there is waited for")
	}
}

func TestOOMWaitEndsWithItsCaller(t *testing.T) {
	for _, c := range []cgroup{"", events(t, t.TempDir(), "0")} {
		s, _ := oomService(c)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := s.WaitOOM(ctx, "c", 0); !errors.Is(err, context.Canceled) {
			t.Errorf("error = %v", err)
		}
	}
}
