package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"dougong.dev/dougong/internal/config"
)

// Options say what to measure with.
type Options struct {
	// Command is the path of the dougong binary, with the sandbox process's
	// beside it.
	Command string
	Config  config.Config
	// Image is the name of an image with a busybox or the like: true, sh,
	// cat, dd and sync.
	Image string
	// Containerd is a directory with containerd and ctr; empty takes those in
	// PATH.
	Containerd string
	// Runs is how many readings a median is of, at least 1.
	Runs int
	// Clones is how many are started beside each other; 0 leaves that out.
	Clones int
	// Only names the parts that are measured, of Parts; empty is all.
	Only []string
	// Progress is told what is being done, line by line; nil for nobody.
	Progress io.Writer
}

// Parts of what is measured.
const (
	PartStarts     = "starts"
	PartOCI        = "oci"
	PartContainerd = "containerd"
	PartNetwork    = "network"
	PartThroughput = "throughput"
	PartClones     = "clones"
)

// Parts are all of them, in their order.
var Parts = []string{PartStarts, PartOCI, PartContainerd, PartNetwork, PartThroughput, PartClones}

// check says what is wrong with options.
func (o Options) check() error {
	if o.Runs < 1 {
		return fmt.Errorf("measure %d times: at least once is needed", o.Runs)
	}
	for _, part := range o.Only {
		if !slices.Contains(Parts, part) {
			return fmt.Errorf("there is no part %q to measure: want some of %s", part, strings.Join(Parts, ", "))
		}
	}
	return nil
}

// wants says whether a part is measured.
func (o Options) wants(part string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, part) }

// Run measures everything. It takes minutes; when ctx ends, everything is
// cleaned up and the error is ctx's.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	report = &Report{Time: time.Now(), Image: o.Image, Runs: o.Runs}
	// First, before our own load is a part of it.
	if report.Machine, err = describe(ctx, o.Config); err != nil {
		return nil, err
	}
	b := &bench{Options: o, out: newSeries(), starts: newStarts(rowRun, rowClone, rowPool)}
	b.say("setting up")
	if b.lab, err = newLab(ctx, o.Command, o.Config, o.Image); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.lab.close()) }()
	if err := b.measure(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	report.Machine.GuestKernel = b.guestKernel
	report.Rows = b.rows()
	for _, row := range []string{rowPool, rowClone, rowRun} {
		if b.wants(PartStarts) {
			report.Starts = append(report.Starts, b.starts[row].start())
		}
	}
	report.Notes = b.notes(report.Machine)
	return report, nil
}

type bench struct {
	Options
	lab *lab
	out *series
	// starts has the timelines of the rows that are whole starts.
	starts      map[string]*phases
	guestKernel string
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.Progress, "bench: "+format+"\n", args...)
}

// rows are all that are planned, without those of parts that were left out.
func (b *bench) rows() []Row {
	rows := judge(allRows(), b.out)
	return slices.DeleteFunc(rows, func(r Row) bool {
		return len(b.Only) > 0 && r.Runs == 0 && b.out.missing[r.Name] == ""
	})
}

func (b *bench) measure(ctx context.Context) error {
	b.lab.measureSizes(b.out)
	b.say("trying everything once")
	subject, err := b.warmUp(ctx)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{
		{PartStarts, func(ctx context.Context) error { return b.measureAlone(ctx, subject) }},
		{PartOCI, b.oci},
		{PartContainerd, b.containerd},
		{PartNetwork, b.network},
		{PartThroughput, b.throughput},
		{PartClones, func(ctx context.Context) error { return b.measureMany(ctx, b.Clones) }},
	} {
		if !b.wants(part.name) {
			continue
		}
		if err := part.measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// measureAlone measures sandboxes of the command, one at a time.
func (b *bench) measureAlone(ctx context.Context, subject *subject) error {
	rivals, err := b.lab.rivals(ctx, b.out)
	if err != nil {
		return err
	}
	b.say("memory of idle sandboxes")
	if err := b.lab.measureIdle(ctx, b.Runs, b.out, idleRows); err != nil {
		return err
	}
	if err := b.lab.measureIdle(ctx, b.Runs, b.out, bootedRows, "--no-template"); err != nil {
		return err
	}
	return b.measureStarts(ctx, subject, rivals)
}

// warmUp does once what is done only once: files come into the host's cache,
// and what is kept from one start to the next is made.
func (b *bench) warmUp(ctx context.Context) (*subject, error) {
	subject, err := b.lab.newSubject()
	if err != nil {
		return nil, err
	}
	m, err := subject.boot(ctx, true)
	if err != nil {
		return nil, err
	}
	b.guestKernel = m.agent.Hello.Kernel
	m.kill()
	return subject, run(b.lab.dougong(ctx, "run", "--rm", b.Image, "true"))
}

// measureStarts measures all that starts something, in turns.
func (b *bench) measureStarts(ctx context.Context, subject *subject, rivals []*rival) (err error) {
	const name = "bench-exec"
	c, err := b.lab.start(ctx, name, b.Image)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, c.stop()) }()
	steps := []func() error{
		func() error { return subject.measureFloor(ctx, b.out) },
		func() error { return b.run(ctx, coldRows, "--no-template") },
		func() error { return b.run(ctx, cloneRows) },
		func() error { return b.runFromPool(ctx) },
		func() error { return subject.measureGuest(ctx, b.out) },
		func() error { return b.command(ctx, rowExec, "exec", name, "true") },
	}
	for _, r := range rivals {
		steps = append(steps, func() error {
			took, err := r.run(ctx)
			b.out.add(r.row, took)
			return err
		})
	}
	for i := range b.Runs {
		b.say("starts, round %d of %d", i+1, b.Runs)
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) command(ctx context.Context, row string, args ...string) error {
	took, err := timed(b.lab.dougong(ctx, args...))
	if err == nil {
		b.out.add(row, took)
	}
	return err
}

func (b *bench) throughput(ctx context.Context) (err error) {
	c, err := b.lab.startBulk(ctx)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, c.stop()) }()
	for i := range b.Runs {
		b.say("throughput, round %d of %d", i+1, b.Runs)
		if err := c.measure(ctx, b.out); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) notes(m Machine) []string {
	var notes []string
	if note, busy := m.busy(); busy {
		notes = append(notes, note)
	}
	if b.Runs < fullRuns {
		notes = append(notes, fmt.Sprintf("medians of %d runs; the promises are for at least %d", b.Runs, fullRuns))
	}
	return notes
}

// fullRuns is how many runs the promises are judged by.
const fullRuns = 10
