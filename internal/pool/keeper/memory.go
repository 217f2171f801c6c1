package keeper

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// memoryOf is what a process takes of the host's memory, in bytes: of pages
// that it shares with n processes one n-th.
func memoryOf(pid int) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("measure process %d: %w", pid, err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "Pss:" {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("measure process %d: %w", pid, err)
		}
		return kib << 10, nil
	}
	return 0, fmt.Errorf("measure process %d: the kernel does not say", pid)
}
