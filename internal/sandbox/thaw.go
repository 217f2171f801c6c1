package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/freeze"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/template"
	"dougong.dev/dougong/internal/vmm"
)

// thawable says whether a machine like spec can be a copy of a VMM that was
// frozen. One that does not emulate has most of its state in the kernel, and
// nothing translated to save. Which queues of a tap are in use is known to the
// tap alone.
func thawable(spec vmm.MachineSpec) bool {
	return spec.Accelerator == vmm.TCG && !qemu.NeedsPrivilege(spec) &&
		!slices.ContainsFunc(spec.NICs, func(n vmm.NIC) bool { return n.Tap != nil && len(n.Tap.Files) > 1 })
}

// keepsVMM says whether templates of machines like spec have their VMM.
func (o *Options) keepsVMM(spec vmm.MachineSpec) bool { return o.WarmTemplates && thawable(spec) }

// frozenKind says what in a frozen VMM must be as in spec beside what the
// guest sees.
func frozenKind(spec vmm.MachineSpec) (string, error) {
	w := waiting(spec)
	// The same files may be reached by other paths.
	w.Kernel, w.Initrd = "", ""
	data, err := json.Marshal(w)
	if err != nil {
		return "", fmt.Errorf("encode the kind of a machine: %w", err)
	}
	return template.Key(string(data)), nil
}

// warmTemplate has a machine go on from a template that is being made, takes it
// through the life of a container, and keeps its VMM in dir and its state in
// state.
func warmTemplate(ctx context.Context, o Options, spec vmm.MachineSpec, memory, from, state *os.File, dir string) error {
	// Whoever has shared directories has his root file system in one, as a rule.
	shared := len(spec.Shares) > 0 && o.Dir != ""
	spec = waiting(spec)
	spec.Name, spec.Saved, spec.KeepsMemory, spec.Generation = "template", true, true, qemu.FirstGeneration
	var err error
	if spec.Cmdline, err = o.templateCmdline(spec); err != nil {
		return err
	}
	for i := range spec.Disks {
		f, err := rehearsalDisk(i, spec.Disks[i].ReadOnly)
		if err != nil {
			return err
		}
		defer f.Close()
		spec.Disks[i].File = f
	}
	taps, err := blankTaps(spec.NICs)
	defer closeFiles(taps)
	if err != nil {
		return err
	}
	spec.Memory = &vmm.Memory{File: memory}
	// It was written to, and goes with its place to the VMM.
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read device state: %w", err)
	}
	m, err := qemu.Start(ctx, o.QEMU, spec)
	if err != nil {
		return err
	}
	defer m.Kill()
	if err := rehearse(ctx, player{opts: o, spec: spec, machine: m, shared: shared}, from); err != nil {
		return explainEnd(m, err)
	}
	if err := m.Freeze(ctx, dir); err != nil {
		return err
	}
	return m.Save(ctx, state)
}

// thaw starts the machine as a copy of its template's VMM and reports whether
// it could. Whatever goes wrong, nothing of it is left, and the plan is as it was.
func (s *Sandbox) thaw(ctx context.Context, t *template.Template, spec vmm.MachineSpec, plan *storage.Plan) bool {
	if !s.opts.keepsVMM(spec) {
		return false
	}
	image, err := frozen(t, spec)
	if errdefs.IsNotFound(err) {
		slog.DebugContext(ctx, "no VMM to thaw", "sandbox", s.opts.ID, "error", err)
		return false
	}
	if err != nil {
		slog.WarnContext(ctx, "the template's VMM is of no use and goes", "sandbox", s.opts.ID, "template", t.Key, "error", firstLine(err))
		logError("remove VMM of template", s.opts.ID, t.DropVMM())
		return false
	}
	m, err := s.thawMachine(ctx, t, image, spec)
	logError("note use of a template", s.opts.ID, t.NoteVMM(err == nil))
	if err == nil {
		err = s.settleIn(ctx, m, spec, nil)
	}
	if err == nil {
		plan.UseSerials(qemu.DiskSerial)
		return true
	}
	slog.WarnContext(ctx, "the template's VMM cannot be thawed", "sandbox", s.opts.ID, "template", t.Key, "error", firstLine(err))
	return false
}

// frozen is the VMM that is kept with a template for machines like spec.
func frozen(t *template.Template, spec vmm.MachineSpec) (*freeze.Image, error) {
	kind, err := frozenKind(spec)
	if err != nil {
		return nil, err
	}
	dir, err := t.VMM(kind)
	if err != nil {
		return nil, err
	}
	return freeze.Load(dir)
}

// thawMachine makes a machine whose guest is stopped.
func (s *Sandbox) thawMachine(ctx context.Context, t *template.Template, image *freeze.Image, spec vmm.MachineSpec) (*qemu.Machine, error) {
	defer s.phase(ctx, "thaw")()
	spec.Saved, spec.KeepsMemory = true, true
	memory, filled, err := s.frozenMemory(t, len(spec.Shares) > 0 || s.opts.CopyTemplates)
	if err != nil {
		return nil, err
	}
	defer memory.File.Close()
	spec.Memory, spec.Shares = memory, nil
	m, err := qemu.Thaw(s.opts.QEMU, spec, image)
	if fill := <-filled; err == nil && fill != nil {
		m.Kill()
		return nil, fill
	}
	return m, err
}

// frozenMemory is the memory of a copy: the template's, or a copy of that, which
// is filled when the channel says so.
func (s *Sandbox) frozenMemory(t *template.Template, copied bool) (*vmm.Memory, <-chan error, error) {
	filled := make(chan error, 1)
	if !copied {
		f, err := t.Memory()
		filled <- nil
		return &vmm.Memory{File: f, Private: true}, filled, err
	}
	f, fill, err := t.Copy()
	if err == nil {
		go func() { filled <- fill() }()
	}
	return &vmm.Memory{File: f}, filled, err
}
