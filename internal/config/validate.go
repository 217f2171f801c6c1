package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

var sizePattern = regexp.MustCompile(`^([1-9][0-9]?%|100%|[1-9][0-9]{0,8}[kmg]?)$`)

// maxUIDBase leaves room for the range of user ids above it.
const maxUIDBase = 1 << 31

// Bounds of a virtual machine.
const (
	// MaxCPUs is what QEMU's q35 takes without an interrupt remapping unit.
	MaxCPUs = 255
	// MinMemoryMiB is the least with which the guest's kernel and agent come
	// up and leave a container something to run in.
	MinMemoryMiB = 128
	// MaxMemoryMiB is far above any machine; it keeps a slip of the pen from
	// overflowing what is computed from it.
	MaxMemoryMiB = 1 << 24
)

// Upper bounds for the same reason as MaxMemoryMiB.
const (
	maxMetadataMiB = 1 << 16
	maxUnpackRatio = 1 << 20
	maxUnpackGiB   = 1 << 20
	maxImageFiles  = 1 << 32
	maxFollowMiB   = 1 << 10
)

// validate reports everything that is wrong, not only the first.
func (c *Config) validate() error {
	return errors.Join(
		oneOf("vm.accelerator", c.VM.Accelerator, "auto", "kvm", "tcg"),
		within("vm.cpus", c.VM.CPUs, 1, MaxCPUs),
		within("vm.memory_mib", c.VM.MemoryMiB, MinMemoryMiB, MaxMemoryMiB),
		within("vm.max_cpus", c.VM.MaxCPUs, 0, MaxCPUs),
		within("vm.max_memory_mib", c.VM.MaxMemoryMiB, 0, MaxMemoryMiB),
		span("vm.boot_timeout", c.VM.BootTimeout),
		span("vm.stop_timeout", c.VM.StopTimeout),
		span("vm.health_timeout", c.VM.HealthTimeout),
		within("vm.uid_base", c.VM.UIDBase, 0, maxUIDBase),
		pathOrEmpty("vm.qemu", c.VM.QEMU),
		pathOrEmpty("vm.kernel", c.VM.Kernel),
		pathOrEmpty("vm.initrd", c.VM.Initrd),
		oneLine("vm.kernel_parameters", c.VM.KernelParameters),
		absolute("storage.root", c.Storage.Root),
		size("storage.writable_size", c.Storage.WritableSize),
		within("storage.max_unpacked_gib", c.Storage.MaxUnpackedGiB, 1, maxUnpackGiB),
		within("storage.max_files_gib", c.Storage.MaxFilesGiB, 1, maxUnpackGiB),
		within("storage.max_metadata_mib", c.Storage.MaxMetadataMiB, 1, maxMetadataMiB),
		within("storage.max_unpack_ratio", c.Storage.MaxUnpackRatio, 2, maxUnpackRatio),
		within("storage.max_image_entries", c.Storage.MaxImageEntries, 1, maxImageFiles),
		absolute("template.memory_dir", c.Template.MemoryDir),
		within("template.memory_mib", c.Template.MemoryMiB, 0, MaxMemoryMiB),
		within("pool.size", c.Pool.Size, 0, maxPool),
		within("pool.memory_mib", c.Pool.MemoryMiB, minPoolMiB, MaxMemoryMiB),
		spanOrNone("pool.idle", c.Pool.Idle),
		c.Pool.needs(c.Template),
		pathOrEmpty("share.virtiofsd", c.Share.Virtiofsd),
		oneOf("share.cache", c.Share.Cache, "auto", "always", "none"),
		within("share.follow_mib", c.Share.FollowMiB, 0, maxFollowMiB),
		oneOf("network.mode", c.Network.Mode, "user", "none"),
		addresses("network.dns", c.Network.DNS),
		pathOrEmpty("cgroup.parent", c.Cgroup.Parent),
		within("cgroup.overhead_millicpus", c.Cgroup.OverheadMillicpus, 0, 1000*MaxCPUs),
		within("cgroup.overhead_memory_mib", c.Cgroup.OverheadMemoryMiB, 0, MaxMemoryMiB),
		absolute("runtime.state", c.Runtime.State),
		pathOrEmpty("runtime.shim", c.Runtime.Shim),
	)
}

// Bounds of a pool.
const (
	// maxPool is more than a host fills in the time between two bursts of starts.
	maxPool = 256
	// minPoolMiB is what the smallest machine takes that could wait in it.
	minPoolMiB = 96
)

// needs refuses a pool that could never be filled.
func (p Pool) needs(t Template) error {
	if p.Size > 0 && !t.Enabled {
		return invalid("pool.size = %d needs template.enabled = true: what waits in a pool are clones", p.Size)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
}

func oneOf(key, value string, want ...string) error {
	if slices.Contains(want, value) {
		return nil
	}
	last := len(want) - 1
	return invalid("%s = %q: want %s or %s", key, value, strings.Join(want[:last], ", "), want[last])
}

func within(key string, value, low, high int) error {
	if value >= low && value <= high {
		return nil
	}
	return invalid("%s = %d: want %d to %d", key, value, low, high)
}

// minTime is shorter than any useful time, and longer than what a number
// without a unit stands for.
const minTime = Duration(time.Millisecond)

func span(key string, value Duration) error {
	if value >= minTime {
		return nil
	}
	return invalid("%s = %q: want a time such as %q", key, time.Duration(value), "30s")
}

func spanOrNone(key string, value Duration) error {
	if value == 0 {
		return nil
	}
	return span(key, value)
}

func absolute(key, value string) error {
	if filepath.IsAbs(value) && !strings.ContainsRune(value, 0) {
		return nil
	}
	return invalid("%s = %q: want an absolute path", key, value)
}

// pathOrEmpty refuses relative paths: the sandbox process does not run where
// the command was given.
func pathOrEmpty(key, value string) error {
	if value == "" {
		return nil
	}
	return absolute(key, value)
}

func oneLine(key, value string) error {
	if !strings.ContainsAny(value, "\n\r\x00") {
		return nil
	}
	return invalid("%s: want a single line", key)
}

func size(key, value string) error {
	if sizePattern.MatchString(value) {
		return nil
	}
	return invalid("%s = %q: want a size such as 256m or a share such as 50%%", key, value)
}

func addresses(key string, list []string) error {
	var errs []error
	for _, s := range list {
		if _, err := netip.ParseAddr(s); err != nil {
			errs = append(errs, invalid("%s: %q is not an IP address", key, s))
		}
	}
	return errors.Join(errs...)
}
