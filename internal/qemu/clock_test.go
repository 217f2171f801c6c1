package qemu

import (
	"errors"
	"testing"

	"dougong.dev/dougong/internal/vmm"
)

func TestClocked(t *testing.T) {
	measured := func() (uint64, error) { return 2_600_000, nil }
	for name, tt := range map[string]struct {
		spec    vmm.MachineSpec
		measure func() (uint64, error)
		want    string
	}{
		"emulated":    {vmm.MachineSpec{Accelerator: vmm.TCG, Cmdline: "quiet"}, measured, "quiet tsc_early_khz=2600000"},
		"not":         {vmm.MachineSpec{Accelerator: vmm.KVM, Cmdline: "quiet"}, measured, "quiet"},
		"saved":       {vmm.MachineSpec{Accelerator: vmm.TCG, Cmdline: "quiet", Saved: true}, measured, "quiet"},
		"given":       {vmm.MachineSpec{Accelerator: vmm.TCG, Cmdline: "tsc_early_khz=1 quiet"}, measured, "tsc_early_khz=1 quiet"},
		"not to tell": {vmm.MachineSpec{Accelerator: vmm.TCG, Cmdline: "quiet"}, func() (uint64, error) { return 0, errors.New("none") }, "quiet"},
	} {
		if got := clocked(tt.spec, tt.measure).Cmdline; got != tt.want {
			t.Errorf("%s: the command line is %q, want %q", name, got, tt.want)
		}
	}
}
