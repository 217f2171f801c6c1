// Package stamp carries the times of a guest's boot from pid 1 to the agent,
// which tells the host.
//
// It owns the clock and the variable that they travel in. It must not know
// what the steps are.
package stamp

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/transport"
)

// variable is the name in the environment.
const variable = "DOUGONG_BOOT"

// maxSteps bounds what is believed of an environment.
const maxSteps = 16

// List is the steps so far, with the time at which each was done.
type List []transport.Timing

// Add notes that a step is done now.
func (l *List) Add(step string) {
	*l = append(*l, transport.Timing{Step: step, Microseconds: Now()})
}

// Environ is the list as an element of a process's environment.
func (l List) Environ() string {
	var steps []string
	for _, t := range l {
		steps = append(steps, t.Step+":"+strconv.FormatInt(t.Microseconds, 10))
	}
	return variable + "=" + strings.Join(steps, ",")
}

// Inherited is the list that this process was started with. It is taken out
// of the environment, so that no child sees it.
func Inherited() List {
	value := os.Getenv(variable)
	_ = os.Unsetenv(variable)
	var l List
	for part := range strings.SplitSeq(value, ",") {
		step, number, _ := strings.Cut(part, ":")
		us, err := strconv.ParseInt(number, 10, 64)
		if err == nil && step != "" && len(l) < maxSteps {
			l = append(l, transport.Timing{Step: step, Microseconds: us})
		}
	}
	return l
}

// Now is the time since the kernel's start in microseconds.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return ts.Nano() / 1000
}
