package qemu

import (
	"fmt"
	"strings"

	"dougong.dev/dougong/internal/vmm"
)

// clockParameter tells the guest's kernel how fast its counter runs, in kHz.
const clockParameter = "tsc_early_khz="

// clocked tells the kernel of an emulated machine how fast its processors count,
// which is as fast as the host's. It would find out by counting while another
// clock goes for a few milliseconds, and where the emulator does not get to run
// for as long, it takes the counter for slower than it is: all its clocks then run
// too fast, by several times on a busy host, and whatever waits there gives up too
// early. Where the host cannot tell either, the kernel does what it can.
func clocked(spec vmm.MachineSpec, measure func() (uint64, error)) vmm.MachineSpec {
	if spec.Accelerator != vmm.TCG || spec.Saved || strings.Contains(spec.Cmdline, clockParameter) {
		return spec
	}
	if khz, err := measure(); err == nil {
		spec.Cmdline = fmt.Sprintf("%s %s%d", spec.Cmdline, clockParameter, khz)
	}
	return spec
}
