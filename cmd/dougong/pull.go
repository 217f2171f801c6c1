package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"dougong.dev/dougong/internal/engine"
	"dougong.dev/dougong/internal/image"
	"dougong.dev/dougong/internal/image/reference"
)

// pullFlags are the flags of every command that may pull.
type pullFlags struct {
	policy, platform string
	quiet            bool
}

func (p *pullFlags) register(f *pflag.FlagSet) {
	f.StringVar(&p.platform, "platform", "", "platform of the image: OS/ARCH (default: this host's)")
	f.BoolVarP(&p.quiet, "quiet", "q", false, "show no progress")
}

func newPullCommand(a *app) *cobra.Command {
	p := pullFlags{policy: string(image.PullAlways)}
	cmd := &cobra.Command{
		Use:   "pull IMAGE",
		Short: "Fetch an image and make it ready to run",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, err := a.pullImage(cmd.Context(), args[0], p)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), img.ID)
			return nil
		},
	}
	p.register(cmd.Flags())
	return cmd
}

// pullImage makes the image of a reference ready to run.
func (a *app) pullImage(ctx context.Context, name string, p pullFlags) (*image.Image, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	policy := image.Policy(p.policy)
	switch policy {
	case image.PullMissing, image.PullAlways, image.PullNever:
	default:
		return nil, fmt.Errorf("--pull %q: want missing, always or never", p.policy)
	}
	opts := image.PullOptions{Platform: p.platform, Policy: policy}
	if !p.quiet && engine.IsTerminal(os.Stderr) {
		bars := newBars()
		defer bars.close()
		opts.Progress = bars.show
	}
	return store.Pull(ctx, ref, opts)
}

// bars draws a progress bar for each layer and step.
type bars struct {
	progress *mpb.Progress
	mu       sync.Mutex
	bars     map[barKey]*mpb.Bar
}

type barKey struct {
	step  image.Step
	layer digest.Digest
}

func newBars() *bars {
	return &bars{progress: mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(40)), bars: map[barKey]*mpb.Bar{}}
}

func (b *bars) show(e image.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := barKey{e.Step, e.Layer}
	bar, ok := b.bars[key]
	if !ok {
		bar = b.progress.AddBar(e.Total,
			mpb.PrependDecorators(decor.Name(fmt.Sprintf("%-6s %.12s ", e.Step, e.Layer.Encoded()))),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f")))
		b.bars[key] = bar
	}
	bar.SetCurrent(e.Done)
}

// close ends the display; bars of a pull that failed are dropped.
func (b *bars) close() {
	b.mu.Lock()
	for _, bar := range b.bars {
		if !bar.Completed() {
			bar.Abort(true)
		}
	}
	b.mu.Unlock()
	b.progress.Wait()
}
