package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// measureMany starts many clones at a time, as many beside each other as there
// are CPUs, leaves them alone, and reads what they take of the host's memory.
func (b *bench) measureMany(ctx context.Context, n int) (err error) {
	if n == 0 {
		for _, row := range []string{rowManyStart, rowManyPSS} {
			b.out.missing[row] = "asked for by --clones 50"
		}
		return nil
	}
	b.say("%d clones beside each other", n)
	defer func() { err = firstError(err, b.removeMany(n)) }()
	begin := time.Now()
	if err := b.startMany(ctx, n); err != nil {
		return err
	}
	b.out.add(rowManyStart, time.Since(begin).Seconds())
	select {
	case <-time.After(settleTime):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	total := newSeries()
	for i := range n {
		pid, err := b.lab.sandboxPID(ctx, manyName(i))
		if err == nil {
			err = readSandbox(pid, total, memoryRows{all: rowManyPSS})
		}
		if err != nil {
			return err
		}
	}
	sum := 0.0
	for _, pss := range total.readings[rowManyPSS] {
		sum += pss
	}
	b.out.add(rowManyPSS, sum/float64(n))
	return nil
}

func manyName(i int) string { return "bench-many-" + strconv.Itoa(i) }

// startMany fails when one of them does.
func (b *bench) startMany(ctx context.Context, n int) error {
	work := make(chan int, n)
	for i := range n {
		work <- i
	}
	close(work)
	failed := make(chan error, n)
	var all sync.WaitGroup
	for range runtime.NumCPU() {
		all.Go(func() {
			for i := range work {
				// They end by themselves, should nobody be there to do it.
				err := run(b.lab.dougong(ctx, "run", "--rm", "-d", "--memory", idleMemory, "--name", manyName(i), b.Image, "sleep", "600"))
				if err != nil {
					failed <- fmt.Errorf("clone %d of %d: %w", i+1, n, err)
				}
			}
		})
	}
	all.Wait()
	close(failed)
	return <-failed
}

func (b *bench) removeMany(n int) error {
	args := []string{"rm", "-f"}
	for i := range n {
		if left, _ := filepath.Glob(filepath.Join(b.lab.cfg.Runtime.State, ".names", manyName(i))); len(left) > 0 {
			args = append(args, manyName(i))
		}
	}
	if len(args) == 2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*stopTimeout)
	defer cancel()
	return run(b.lab.dougong(ctx, args...))
}
