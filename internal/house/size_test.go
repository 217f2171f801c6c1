package house

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

const (
	mib = 1 << 20
	mb  = 1_000_000
)

// budgets bound the stripped binaries in bytes. The agent is also in every
// guest's memory.
var budgets = map[string]int64{
	"dougong":                    30 * mib,
	"containerd-shim-dougong-v2": 12 * mib,
	"dougong-agent":              12 * mib,
}

func TestBinaries(t *testing.T) {
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, budget := range budgets {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			goTool(t, "build", "-trimpath", "-buildvcs=false", "-tags", "no_grpc", "-ldflags", "-s -w", "-o", path, "./cmd/"+name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if size := int64(len(data)); size > budget {
				t.Errorf("%s has %d bytes, and may have %d", name, size, budget)
			}
			if bytes.Contains(data, []byte(here+"/")) {
				t.Errorf("%s holds the path it was built at, %s", name, here)
			}
		})
	}
}

// initramfs is what `make guest` builds.
const (
	initramfs       = "/var/lib/dougong/guest/current/initramfs.cpio"
	initramfsBudget = 20 * mb
)

func TestInitramfs(t *testing.T) {
	info, err := os.Stat(initramfs)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		t.Skipf("no guest image was built here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > initramfsBudget {
		t.Errorf("the initramfs has %d bytes, and may have %d", info.Size(), initramfsBudget)
	}
}
