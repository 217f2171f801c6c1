// Package tsc measures how fast the host's time stamp counter runs. The counter
// of an emulated processor is the host's.
//
// It owns the measurement alone. The kernel knows the figure better, but tells
// it nobody.
package tsc

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// window is how long is measured.
	window = 10 * time.Millisecond
	// attempts are how often the two clocks are read together, and slack is what
	// that may take. The result is off by such a part of itself at most.
	attempts = 64
	slack    = window / 5000
)

// errDisturbed says that this process was interrupted all the time.
var errDisturbed = errors.New("measure the time stamp counter: it could not be read together with a clock")

// counter reads the time stamp counter.
func counter() uint64

// KHz is how many thousand times in a second the counter goes up by one. The
// first call takes a moment; all others have its answer.
var KHz = sync.OnceValues(measure)

func measure() (uint64, error) {
	first, err := read()
	if err != nil {
		return 0, err
	}
	<-time.After(window)
	second, err := read()
	if err != nil {
		return 0, err
	}
	return rate(first, second), nil
}

// reading is what the counter and a clock said at the same time.
type reading struct {
	ticks uint64
	clock time.Duration
}

// rate is in kHz. It cannot overflow: ten thousand seconds of 1 GHz fit.
func rate(first, second reading) uint64 {
	return (second.ticks - first.ticks) * 1e6 / uint64(second.clock-first.clock)
}

// read takes the best of a few readings, which is the one least interrupted.
func read() (reading, error) {
	best, least := reading{}, slack
	for range attempts {
		before := now()
		ticks := counter()
		if took := now() - before; took < least {
			best, least = reading{ticks: ticks, clock: before + took/2}, took
		}
	}
	if best.clock == 0 {
		return best, errDisturbed
	}
	return best, nil
}

// now is a clock that nobody sets.
func now() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
