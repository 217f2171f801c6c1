package bench

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dougong.dev/dougong/internal/agent"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/timeline"
)

// verbose has the guest's kernel print all it says, with times. Printing them
// over the serial line makes the boot slower, so it is a boot of its own.
const verbose = " ignore_loglevel"

// kernelMessages boots the subject's machine and returns what its kernel said.
func (s *subject) kernelMessages(ctx context.Context) (string, error) {
	spec, config := s.options.Machine, s.options.QEMU
	spec.Cmdline += verbose
	said := &messages{}
	config.Console = said
	ctx, cancel := context.WithTimeout(ctx, s.options.BootTimeout)
	defer cancel()
	m, err := qemu.Start(ctx, config, spec)
	if err != nil {
		return "", err
	}
	defer m.Kill()
	if err := agent.Await(ctx, m.Agent()); err != nil {
		return "", fmt.Errorf("boot with all messages: %w", err)
	}
	return said.String(), nil
}

// messages keeps what a guest prints.
type messages struct {
	mu   sync.Mutex
	text strings.Builder
}

// maxMessages bounds what is kept, in bytes.
const maxMessages = 1 << 20

// Write implements io.Writer.
func (m *messages) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.text.Len() < maxMessages {
		m.text.Write(p)
	}
	return len(p), nil
}

func (m *messages) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

// stamped is a line of the kernel's.
var stamped = regexp.MustCompile(`^\[ *(\d+\.\d+)\] (.*)$`)

// kernelSpans turns messages into the times between them: each is named by
// the message that ended it, which mostly tells what was done. Only the
// longest n are returned, in the order in which they came.
func kernelSpans(text string, n int) []timeline.Span {
	var spans []timeline.Span
	var zero, last time.Time
	for line := range strings.Lines(text) {
		m := stamped.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		at, err := strconv.ParseFloat(m[1], 64)
		if now := zero.Add(seconds(at)); err == nil && now.After(last) {
			spans = append(spans, timeline.Span{Name: clip(m[2]), Begin: last, End: now})
			last = now
		}
	}
	slices.SortStableFunc(spans, func(a, b timeline.Span) int { return int(b.Took() - a.Took()) })
	return timeline.Sort(spans[:min(n, len(spans))])
}

// clip is as much of a message as fits beside a bar.
func clip(s string) string {
	const most = 56
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// longest is how many of the kernel's steps are shown.
const longest = 18

// WriteTimeline shows where the time of one cold start, of its kernel, and of
// one clone goes.
func WriteTimeline(ctx context.Context, w io.Writer, o Options) (err error) {
	b := &bench{Options: o}
	if b.Progress == nil {
		b.Progress = io.Discard
	}
	if b.lab, err = newLab(ctx, o.Command, o.Config, o.Image); err != nil {
		return err
	}
	defer func() { err = firstError(err, b.lab.close()) }()
	b.out, b.starts = newSeries(), newStarts(rowRun, rowClone)
	b.say("trying everything once")
	subject, err := b.warmUp(ctx)
	if err != nil {
		return err
	}
	for i := range o.Runs {
		b.say("starts, round %d of %d", i+1, o.Runs)
		if err := b.run(ctx, coldRows, "--no-template"); err != nil {
			return err
		}
		if err := b.run(ctx, cloneRows); err != nil {
			return err
		}
	}
	text, err := subject.kernelMessages(ctx)
	if err != nil {
		return err
	}
	return b.drawTimeline(w, text)
}

func (b *bench) drawTimeline(w io.Writer, kernel string) error {
	of := fmt.Sprintf("dougong run --rm %%s%s true, medians of %d:", b.Image, b.Runs)
	if err := timeline.Write(w, "cold:  "+fmt.Sprintf(of, "--no-template "), b.starts[rowRun].start().spans()); err != nil {
		return err
	}
	title := fmt.Sprintf("\nkernel %s, a boot with all messages, which cost time; the %d longest waits and what ended them:", b.guestKernel, longest)
	if err := timeline.Write(w, title, kernelSpans(kernel, longest)); err != nil {
		return err
	}
	return timeline.Write(w, "\nclone: "+fmt.Sprintf(of, ""), b.starts[rowClone].start().spans())
}
