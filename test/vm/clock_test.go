package vm

import (
	"fmt"
	"strings"
	"testing"

	"dougong.dev/dougong/internal/tsc"
)

// TestClock wants the guest's kernel to count as fast as the host's processor, and
// not as it finds out by itself: on a busy host that goes wrong.
func TestClock(t *testing.T) {
	khz, err := tsc.KHz()
	if err != nil {
		t.Fatal(err)
	}
	in := install(t, `vm.accelerator="tcg"`)
	said := in.must("run", "--rm", "--no-template", "--privileged", busybox(), "sh", "-c", "dmesg | sed -n 's/.*tsc: Detected \\([0-9.]*\\) MHz TSC.*/\\1/p; s/.*tsc: Detected \\([0-9.]*\\) MHz processor.*/\\1/p'")
	lines := strings.Fields(said)
	if len(lines) == 0 {
		t.Fatal("the kernel says nothing of its counter")
	}
	var mhz float64
	if _, err := fmt.Sscan(lines[len(lines)-1], &mhz); err != nil {
		t.Fatal(err)
	}
	if off := mhz*1000/float64(khz) - 1; off > 0.001 || off < -0.001 {
		t.Errorf("the counter runs at %d kHz, and the guest takes it for %q MHz", khz, lines)
	}
}
