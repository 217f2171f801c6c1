package agent

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	api "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/guest/stamp"
	"dougong.dev/dougong/internal/transport"
)

func hello(version string, boot stamp.List) transport.Hello {
	boot.Add("ready")
	return transport.Hello{
		Protocol: transport.ProtocolVersion, AgentVersion: version, Kernel: kernelRelease(), Boot: boot,
	}
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

// info reads figures from proc and sys.
func info(version, proc, sys string) (*api.InfoResponse, error) {
	memory, err := keyed(filepath.Join(proc, "meminfo"))
	if err != nil {
		return nil, err
	}
	self, err := keyed(filepath.Join(proc, "self/status"))
	if err != nil {
		return nil, err
	}
	online, err := os.ReadFile(filepath.Join(sys, "devices/system/cpu/online"))
	if err != nil {
		return nil, fmt.Errorf("read online CPUs: %w", err)
	}
	return &api.InfoResponse{
		AgentVersion: version, KernelRelease: kernelRelease(),
		AgentRss: self["VmRSS"], MemoryTotal: memory["MemTotal"], MemoryAvailable: memory["MemAvailable"],
		CpusOnline: countCPUs(strings.TrimSpace(string(online))),
	}, nil
}

// keyed reads lines of "Name: 123 kB" into bytes by name. Lines of another
// kind are left out.
func keyed(path string) (map[string]uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := make(map[string]uint64)
	for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); {
		name, rest, _ := strings.Cut(scan.Text(), ":")
		number, isKB := strings.CutSuffix(strings.TrimSpace(rest), " kB")
		if n, err := strconv.ParseUint(number, 10, 64); err == nil && isKB {
			values[name] = n << 10
		}
	}
	return values, nil
}

// countCPUs counts a list like "0-3,5".
func countCPUs(list string) uint32 {
	var count uint32
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, aerr := strconv.ParseUint(first, 10, 16)
		b, berr := strconv.ParseUint(last, 10, 16)
		if aerr == nil && berr == nil && a <= b {
			count += uint32(b - a + 1)
		}
	}
	return count
}
