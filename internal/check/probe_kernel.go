package check

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func probeVhostVsock(_ context.Context, h *Host) Result {
	return device(h, "/dev/vhost-vsock", "the agent is reached over virtio-serial")
}

func probeVhostNet(_ context.Context, h *Host) Result {
	return device(h, "/dev/vhost-net", "the network modes user and none do without it")
}

func probeTun(_ context.Context, h *Host) Result {
	return device(h, "/dev/net/tun", "the network modes user and none do without it")
}

// device reports on a device that is used when present and never needed.
func device(h *Host, path, why string) Result {
	if h.exists(path) {
		return ok(path)
	}
	return ok("absent and not needed: " + why)
}

func probeCgroup(_ context.Context, h *Host) Result {
	const dir = "/sys/fs/cgroup"
	switch {
	case h.exists(filepath.Join(dir, "cgroup.controllers")):
		return ok("v2")
	case h.exists(filepath.Join(dir, "unified/cgroup.controllers")):
		return ok("v1 with v2 beside it; guests have v2 in any case")
	case h.exists(filepath.Join(dir, "memory")):
		return ok("v1; guests have v2 in any case")
	}
	return warn("none is mounted at "+dir, "mount -t cgroup2 cgroup2 "+dir)
}

// vmmOverhead is the memory that a sandbox takes on the host beside that of
// its guest, in bytes, rounded up.
const vmmOverhead = 128 << 20

func probeMemory(_ context.Context, h *Host) Result {
	f, err := os.Open(h.path("/proc/meminfo"))
	if err != nil {
		return warn(err.Error(), "mount -t proc proc /proc")
	}
	defer f.Close()
	free, err := available(f)
	if err != nil {
		return warn(err.Error(), "check /proc/meminfo")
	}
	need := uint64(h.Config.VM.MemoryMiB)<<20 + vmmOverhead
	detail := fmt.Sprintf("%s available, a sandbox of %d MiB may take up to %s", mib(free), h.Config.VM.MemoryMiB, mib(need))
	if free < need {
		return fail(detail, "free memory, or lower vm.memory_mib")
	}
	return ok(detail)
}

// available reads MemAvailable, in bytes.
func available(meminfo io.Reader) (uint64, error) {
	lines := bufio.NewScanner(meminfo)
	for lines.Scan() {
		value, found := strings.CutPrefix(lines.Text(), "MemAvailable:")
		if !found {
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		kib, err := strconv.ParseUint(number, 10, 54)
		if err != nil || unit != "kB" {
			return 0, fmt.Errorf("/proc/meminfo says MemAvailable is %q", strings.TrimSpace(value))
		}
		return kib << 10, nil
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("read /proc/meminfo: %w", err)
	}
	return 0, fmt.Errorf("/proc/meminfo does not say MemAvailable")
}

// Space below which images cannot be expected to fit, and below which only
// small ones do, in bytes.
const (
	spaceFail = 256 << 20
	spaceWarn = 2 << 30
)

func probeStorage(_ context.Context, h *Host) Result {
	root := h.Config.Storage.Root
	free, err := h.Space(root)
	if err != nil {
		return fail(err.Error(), "set storage.root to a directory that can be written")
	}
	detail := fmt.Sprintf("%s free in %s", mib(free), root)
	switch {
	case free < spaceFail:
		return fail(detail, "remove images with 'dougong rmi', or move storage.root")
	case free < spaceWarn:
		return warn(detail, "remove images with 'dougong rmi', or move storage.root")
	}
	return ok(detail)
}

func probeState(_ context.Context, h *Host) Result {
	dir := h.Config.Runtime.State
	if err := h.Writable(dir); err != nil {
		return fail("running sandboxes cannot be noted: "+err.Error(), "run dougong as root, or set runtime.state to a directory that can be written")
	}
	return ok(dir)
}

// mib writes a size for people.
func mib(bytes uint64) string {
	if bytes >= 10<<30 {
		return fmt.Sprintf("%d GiB", bytes>>30)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
