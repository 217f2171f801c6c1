package sandbox

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/agent"
	"dougong.dev/dougong/internal/pool"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/template"
)

// rehearsalImage is a root file system with one small program, /bin/true.
//
//go:embed rehearsal.erofs
var rehearsalImage []byte

// errTemplate says that a file was replaced since the kind was asked for.
var errTemplate = errors.New("the kernel, the initramfs or QEMU is another than when such a machine was asked for")

// Warm makes a machine of a kind for the pool: a clone that has run a container
// since it was restored, and is stopped. An emulator has then translated all
// that the start of a container runs. It is leased, and the caller's; after an
// error nothing of it is left. base has what does not depend on the kind.
func Warm(ctx context.Context, base Options, kind pool.Kind) (*qemu.Machine, error) {
	var r recipe
	if err := json.Unmarshal(kind.Recipe, &r); err != nil {
		return nil, fmt.Errorf("read how to make a machine for the pool: %w", err)
	}
	o, err := r.options(ctx, base)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.BootTimeout, fmt.Errorf("the machine was not ready within %v (vm.boot_timeout)", o.BootTimeout))
	defer cancel()
	s := &Sandbox{opts: o}
	t, err := Template(ctx, o, r.Machine)
	if err != nil {
		return nil, err
	}
	if t.Key != r.Template {
		return nil, errTemplate
	}
	m, err := s.spawnRehearsed(ctx, t, r)
	if err != nil {
		return nil, fmt.Errorf("make a machine for the pool: %w", err)
	}
	return m, nil
}

func (s *Sandbox) spawnRehearsed(ctx context.Context, t *template.Template, r recipe) (*qemu.Machine, error) {
	state, err := t.State()
	if err != nil {
		return nil, err
	}
	defer state.Close()
	spec := r.Machine
	spec.Name = s.opts.ID
	for i := range spec.Disks {
		f, err := rehearsalDisk(i, spec.Disks[i].ReadOnly)
		if err != nil {
			return nil, err
		}
		// The VMM has its own copies of the files.
		defer f.Close()
		spec.Disks[i].File = f
	}
	taps, err := blankTaps(spec.NICs)
	defer closeFiles(taps)
	if err != nil {
		return nil, err
	}
	s.opts.QEMU.Leased = true
	m, err := s.spawnClone(ctx, t, spec, r.Copied)
	if err != nil {
		return nil, err
	}
	p := player{opts: s.opts, spec: spec, machine: m, shared: r.Shared}
	if err := rehearse(ctx, p, state); err != nil {
		err = explainEnd(m, err)
		m.Kill()
		return nil, err
	}
	return m, nil
}

// rehearse takes a clone through the life of a container and stops it.
func rehearse(ctx context.Context, p player, state *os.File) error {
	if err := p.machine.Resume(ctx, state); err != nil {
		return err
	}
	until, cancel := untilEnd(ctx, p.machine)
	defer cancel()
	if err := agent.Rehearse(until, p.machine.Agent(), p.play); err != nil {
		return err
	}
	return p.machine.Pause(ctx)
}

// rehearsalDisk is the i-th disk of a machine that waits, a file without a
// name: the first one has the image, the others are empty.
func rehearsalDisk(i int, readOnly bool) (*os.File, error) {
	if i > 0 {
		return emptySlot(readOnly)
	}
	fd, err := unix.MemfdCreate("rehearsal", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make disk for a rehearsal: %w", err)
	}
	f := os.NewFile(uintptr(fd), "rehearsal")
	if _, err := f.Write(rehearsalImage); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make disk for a rehearsal: %w", err)
	}
	if !readOnly {
		return f, nil
	}
	defer f.Close()
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
}
