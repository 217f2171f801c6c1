package agent

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"

	api "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/agent"
	"dougong.dev/dougong/internal/guest/bundle"
	"dougong.dev/dougong/internal/guest/container"
	"dougong.dev/dougong/internal/guest/mount"
	"dougong.dev/dougong/internal/guest/volume"
	"dougong.dev/dougong/internal/transport"
)

// TestRehearsals has the host run a container in each of two rehearsals, and
// then in the session that follows: nothing of the one is in the way of the next.
func TestRehearsals(t *testing.T) {
	dir := t.TempDir()
	near, far, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	still := transport.NewStillLine(far)
	guest := transport.NewGuest(still)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	mounter := mount.New(nil)
	ended := make(chan error, 1)
	go func() {
		ended <- serve(ctx, guest, parts{
			version: "test", offer: still.Offer, mounter: mounter,
			runtime: container.Config{Binary: "crun", Args: []string{"--cgroup-manager=cgroupfs"}, Root: filepath.Join(dir, "crun")},
			bundles: bundle.NewStore(filepath.Join(dir, "bundles"), mounter),
			volumes: volume.NewStore(filepath.Join(dir, "volumes")),
		})
		_ = guest.Close()
	}()
	m := &machine{T: t, dir: dir, ended: ended}
	line := near.(agent.Line)
	m.check(agent.Await(m.context(), line))
	for range 2 {
		m.check(agent.Rehearse(m.context(), line, func(_ context.Context, c *agent.Client) error {
			m.live(c)
			return nil
		}))
	}
	c, err := agent.Connect(m.context(), line)
	m.check(err)
	m.live(c)
	_ = c.Close()
	if err := <-ended; !errors.Is(err, errHostGone) {
		t.Errorf("the agent ends with %v", err)
	}
}

// live takes a container through its life.
func (m *machine) live(c *agent.Client) {
	m.Helper()
	m.vm, m.tasks, m.open = c.VM, c.Task, c.OpenStream
	out := m.start("c1", "echo $$; exit 3")
	got, err := io.ReadAll(transport.NewStreamReader(out))
	m.check(err)
	_ = out.Close()
	end, err := m.tasks.Wait(m.context(), &task.WaitRequest{ID: "c1"})
	m.check(err)
	if string(got) != "1\n" || end.ExitStatus != 3 {
		m.Errorf("output %q, status %d", got, end.ExitStatus)
	}
	_, err = m.tasks.Delete(m.context(), &task.DeleteRequest{ID: "c1"})
	m.check(err)
	_, err = m.vm.DeleteBundle(m.context(), &api.DeleteBundleRequest{Id: "c1"})
	m.check(err)
}

// TestRehearsalThatFails is one in which the host does not come to its end.
func TestRehearsalThatFails(t *testing.T) {
	near, far, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	// A guest that is up, and then says nothing any more.
	if _, err := far.Write([]byte{'R'}); err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	line := near.(agent.Line)
	if err := agent.Await(t.Context(), line); err != nil {
		t.Fatal(err)
	}
	why := errors.New("too slow")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := agent.Rehearse(ctx, line, nil); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}
