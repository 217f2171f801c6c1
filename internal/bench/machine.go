package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/version"
	"dougong.dev/dougong/internal/vmm"
)

// Machine is what the figures were measured on.
type Machine struct {
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	MemoryMiB   int    `json:"memoryMiB"`
	Kernel      string `json:"kernel"`
	QEMU        string `json:"qemu"`
	Accelerator string `json:"accelerator"`
	Dougong     string `json:"dougong"`
	GuestKernel string `json:"guestKernel,omitempty"`
	// Load is the average of the last minute before the start.
	Load float64 `json:"loadBefore"`
}

// describe looks at this machine.
func describe(ctx context.Context, cfg config.Config) (Machine, error) {
	m := Machine{
		CPU: cpuModel("/proc/cpuinfo"), Cores: runtime.NumCPU(), Dougong: version.String(),
		MemoryMiB: memory(), Kernel: kernelRelease(), Load: loadAverage("/proc/loadavg"),
	}
	accelerator, _, err := qemu.DetectAccelerator(vmm.Accelerator(cfg.VM.Accelerator))
	if err != nil {
		return m, err
	}
	m.Accelerator = string(accelerator)
	binary, err := qemu.FindBinary(cfg.VM.QEMU)
	if err != nil {
		return m, err
	}
	v, err := qemu.QueryVersion(ctx, binary)
	m.QEMU = v.String()
	return m, err
}

func cpuModel(path string) string {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func memory() int {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int(info.Totalram * uint64(info.Unit) >> 20)
}

func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// loadAverage returns the average of the last minute, 0 when it is not known.
func loadAverage(path string) float64 {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(data), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// quietLoad is the load average per core up to which a machine counts as quiet.
const quietLoad = 0.25

// busy says that the machine had other things to do before the start.
func (m Machine) busy() (note string, busy bool) {
	if m.Load <= quietLoad*float64(m.Cores) {
		return "", false
	}
	return fmt.Sprintf("the machine was busy before the start (load average %.2f on %d cores): times are longer and rates lower than on a quiet one; compare ratios only", m.Load, m.Cores), true
}

func (m Machine) lines() []string {
	return []string{
		fmt.Sprintf("machine: %s, %d cores, %d MiB, Linux %s, load %.2f", m.CPU, m.Cores, m.MemoryMiB, m.Kernel, m.Load),
		fmt.Sprintf("dougong: %s, QEMU %s, %s, guest kernel %s", m.Dougong, m.QEMU, m.Accelerator, m.GuestKernel),
	}
}
