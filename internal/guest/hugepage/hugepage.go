// Package hugepage keeps memory of the guest for huge pages.
//
// It owns the kernel's pools of such pages. Who may use them is a matter of
// cgroups.
package hugepage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	agent "dougong.dev/dougong/api/agent/v1"
)

// Reserve has the kernel's pools below dir hold so many pages. On an error those
// that could not be filled hold what they held before.
func Reserve(dir string, pages []*agent.HugePages) error {
	for _, p := range pages {
		if err := reserve(filepath.Join(dir, fmt.Sprintf("hugepages-%dkB", p.Size>>10)), p); err != nil {
			return err
		}
	}
	return nil
}

func reserve(pool string, p *agent.HugePages) error {
	file := filepath.Join(pool, "nr_hugepages")
	before, err := number(file)
	if errors.Is(err, fs.ErrNotExist) {
		if p.Count == 0 {
			return nil
		}
		return fmt.Errorf("huge pages of %d KiB: the virtual machine's processor has none: %w", p.Size>>10, errdefs.ErrNotImplemented)
	}
	if err != nil {
		return err
	}
	if err := set(file, p.Count); err != nil {
		return err
	}
	// The kernel keeps as many as it finds memory for.
	has, err := number(file)
	if err == nil && has < p.Count {
		err = fmt.Errorf("of %d huge pages of %d KiB the guest has found memory in one piece for %d: %w", p.Count, p.Size>>10, has, errdefs.ErrResourceExhausted)
	}
	if err != nil {
		return errors.Join(err, set(file, before))
	}
	return nil
}

func set(file string, n uint64) error {
	return os.WriteFile(file, []byte(strconv.FormatUint(n, 10)), 0)
}

func number(file string) (uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return n, nil
}
