package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"dougong.dev/dougong/internal/agent"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/template"
	"dougong.dev/dougong/internal/vmm"
)

// cloneShare is the part of the time for a start after which a clone that is
// silent is given up, so that there is enough left for a boot.
const cloneShare = 4

// clone starts the machine from a template, which is made first where there
// is none. On an error nothing of the clone is left. The template is returned
// then too, if there is one; suspect says that it may be the cause.
func (s *Sandbox) clone(ctx context.Context, spec vmm.MachineSpec, plan *storage.Plan) (t *template.Template, suspect bool, err error) {
	begin := time.Now()
	done := s.phase(ctx, "template")
	t, err = Template(ctx, s.opts, spec)
	done()
	if err != nil {
		return nil, false, err
	}
	if clone, boot, yes := t.BootInstead(); yes {
		return t, false, fmt.Errorf("clones of template %s take %v here, a boot %v", t.Key, clone, boot)
	}
	found := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, s.opts.BootTimeout/cloneShare,
		fmt.Errorf("the clone did not answer within %v", s.opts.BootTimeout/cloneShare))
	defer cancel()
	thawed := s.thaw(ctx, t, spec, plan)
	if !thawed {
		if err := s.startClone(ctx, t, spec); err != nil {
			return t, true, err
		}
	}
	t.NoteClone(time.Since(found))
	slog.InfoContext(ctx, "clone running", "sandbox", s.opts.ID, "template", t.Key, "thawed", thawed, "template_took", found.Sub(begin), "clone_took", time.Since(found))
	return t, false, nil
}

// cloneOrBoot starts the machine as a clone, or where that fails the long way.
// Had the clone's template a part in it, the next sandbox gets a new one.
func (s *Sandbox) cloneOrBoot(ctx context.Context, spec vmm.MachineSpec, plan *storage.Plan) error {
	t, suspect, err := s.clone(ctx, spec, plan)
	if err == nil || ctx.Err() != nil {
		return err
	}
	slog.WarnContext(ctx, "no clone could be started, booting instead", "sandbox", s.opts.ID, "error", firstLine(err))
	begin := time.Now()
	if err := s.bootMachine(ctx, spec); err != nil {
		// A forwarded port that is taken, for one, stops both.
		return err
	}
	switch {
	case suspect:
		logError("remove template", s.opts.ID, s.opts.Templates.Remove(t.Key))
	case t != nil:
		t.NoteBoot(time.Since(begin))
	}
	return nil
}

// startClone starts a machine on the template's memory and state.
func (s *Sandbox) startClone(ctx context.Context, t *template.Template, spec vmm.MachineSpec) error {
	state, err := t.State()
	if err != nil {
		return err
	}
	defer state.Close()
	shares := spec.Shares
	m, err := s.spawnClone(ctx, t, spec, len(shares) > 0 || s.opts.CopyTemplates)
	if err != nil {
		return err
	}
	if err := s.resume(ctx, m, state, shares); err != nil {
		err = explainEnd(m, err)
		m.Kill()
		return err
	}
	return nil
}

// spawnClone starts the VMM on the template's memory, which waits for the
// device state. The spec's shares are for later.
func (s *Sandbox) spawnClone(ctx context.Context, t *template.Template, spec vmm.MachineSpec, copied bool) (*qemu.Machine, error) {
	spec.Shares, spec.Saved, spec.KeepsMemory, spec.Generation = nil, true, true, newGeneration()
	var err error
	if spec.Cmdline, err = s.opts.templateCmdline(spec); err != nil {
		return nil, err
	}
	memory, err := s.cloneMemory(ctx, t, copied)
	if err != nil {
		return nil, err
	}
	spec.Memory = &memory.Memory
	done := s.phase(ctx, "spawn")
	m, err := qemu.Start(ctx, s.opts.QEMU, spec)
	done()
	// QEMU has opened its memory, and must not be able to do so once more
	// when the guest runs.
	filled := memory.give()
	if err != nil {
		return nil, err
	}
	if filled != nil {
		m.Kill()
		return nil, filled
	}
	return m, nil
}

// newGeneration is a UUID by which a clone's kernel sees that it is one.
func newGeneration() string {
	var b [16]byte
	// crypto/rand.Read never fails on Linux.
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// lentMemory is the memory of a clone.
type lentMemory struct {
	vmm.Memory
	// give waits until the memory is as it has to be when the guest goes on,
	// and takes away what only the VMM's start needed.
	give func() error
}

// cloneMemory is the template's own memory, copied on write, or a copy, which
// other processes can serve devices in. It is copied while the VMM starts.
func (s *Sandbox) cloneMemory(ctx context.Context, t *template.Template, copied bool) (*lentMemory, error) {
	if !copied {
		dir, name, take, err := t.Lend()
		if err != nil {
			return nil, err
		}
		return &lentMemory{vmm.Memory{File: dir, Name: name, Private: true}, func() error { take(); return nil }}, nil
	}
	f, fill, err := t.Copy()
	if err != nil {
		return nil, err
	}
	filled := make(chan error, 1)
	go func() {
		defer s.phase(ctx, "memory")()
		filled <- fill()
	}()
	return &lentMemory{vmm.Memory{File: f}, func() error {
		defer f.Close()
		return <-filled
	}}, nil
}

// resume lets a clone run, plugs its shares in and connects to its agent.
func (s *Sandbox) resume(ctx context.Context, m *qemu.Machine, state *os.File, shares []vmm.Share) error {
	done := s.phase(ctx, "restore")
	if err := m.Resume(ctx, state); err != nil {
		return err
	}
	done()
	client, err := s.meet(ctx, m, shares)
	if err != nil {
		return err
	}
	s.adopt(m, client)
	return nil
}

// meet connects to the agent of a clone that runs, and plugs in what is still
// missing.
func (s *Sandbox) meet(ctx context.Context, m *qemu.Machine, shares []vmm.Share) (*agent.Client, error) {
	done := s.phase(ctx, "agent")
	client, err := connectAgent(ctx, m)
	done()
	if err != nil {
		return nil, err
	}
	if err := s.plugIn(ctx, m, shares); err != nil {
		_ = client.Close()
		return nil, err
	}
	return client, nil
}

// plugIn gives a restored machine what no template has: shares, and disks whose
// size the guest must see.
func (s *Sandbox) plugIn(ctx context.Context, m *qemu.Machine, shares []vmm.Share) error {
	if len(shares)+len(s.bare) > 0 {
		defer s.phase(ctx, "devices")()
	}
	for _, share := range shares {
		if err := m.AttachShare(ctx, share); err != nil {
			return err
		}
	}
	for disks := range slices.Chunk(s.bare, qemu.DisksPerPort) {
		if _, err := m.AttachDisks(ctx, disks); err != nil {
			return err
		}
	}
	return nil
}

// adopt makes a machine and its agent the sandbox's own.
func (s *Sandbox) adopt(m *qemu.Machine, client *agent.Client) {
	s.machine, s.client = m, client
	s.releases.push(m.Kill)
	s.releases.push(func() { _ = client.Close() })
}

// bootMachine starts the machine the long way.
func (s *Sandbox) bootMachine(ctx context.Context, spec vmm.MachineSpec) error {
	spec.Disks = append(slices.Clip(spec.Disks), s.bare...)
	done := s.phase(ctx, "spawn")
	m, err := qemu.Start(ctx, s.opts.QEMU, spec)
	done()
	if err != nil {
		return err
	}
	done = s.phase(ctx, "boot")
	err = awaitAgent(ctx, m)
	done()
	var client *agent.Client
	if err == nil {
		done = s.phase(ctx, "agent")
		client, err = connectAgent(ctx, m)
		done()
	}
	if err != nil {
		err = explainEnd(m, err)
		m.Kill()
		return err
	}
	s.traceBoot(client.Hello.Boot)
	s.adopt(m, client)
	return nil
}

// awaitAgent waits until the agent is up, and gives up when the VM is gone.
func awaitAgent(ctx context.Context, m *qemu.Machine) error {
	ctx, cancel := untilEnd(ctx, m)
	defer cancel()
	return agent.Await(ctx, m.Agent())
}

// connectAgent connects to an agent that is up.
func connectAgent(ctx context.Context, m *qemu.Machine) (*agent.Client, error) {
	ctx, cancel := untilEnd(ctx, m)
	defer cancel()
	return agent.Connect(ctx, m.Agent())
}

// untilEnd returns a context that ends with the VM.
func untilEnd(ctx context.Context, m *qemu.Machine) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(contextOf(m.Done()), func() { cancel(errMachineEnded) })
	return ctx, func() { stop(); cancel(nil) }
}

// explainEnd replaces an error that came of a VM's end by the VM's account of
// it, and adds the guest's last words to any other.
func explainEnd(m *qemu.Machine, err error) error {
	if !errors.Is(err, errMachineEnded) && !ended(m) {
		return withConsole(err, m.Console())
	}
	<-m.Done()
	if cause := m.Err(); cause != nil {
		return cause
	}
	return withConsole(fmt.Errorf("the guest powered off while it was started: %w", errMachineEnded), m.Console())
}

// endTimeout is how long after the breaking of its lines the end of a VMM is
// waited for; it says more than they do.
const endTimeout = time.Second

func ended(m *qemu.Machine) bool {
	select {
	case <-m.Done():
		return true
	case <-time.After(endTimeout):
		return false
	}
}

// firstLine is enough of an error for the log where there is a way out.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
