package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dougong.dev/dougong/internal/storage"
	"dougong.dev/dougong/internal/virtiofsd"
	"dougong.dev/dougong/internal/vmm"
)

func (s *Sandbox) path(name string) string { return filepath.Join(s.opts.Dir, name) }

// openDisks opens the files of disks with no more rights than the guest gets.
func openDisks(plan []storage.Disk) ([]vmm.Disk, error) {
	var disks []vmm.Disk
	for _, d := range plan {
		mode := os.O_RDWR
		if d.ReadOnly {
			mode = os.O_RDONLY
		}
		f, err := os.OpenFile(d.Path, mode, 0)
		if err != nil {
			closeDisks(disks)
			return nil, fmt.Errorf("open disk of the sandbox: %w", err)
		}
		disks = append(disks, vmm.Disk{Serial: d.Serial, File: f, ReadOnly: d.ReadOnly})
	}
	return disks, nil
}

func closeDisks(disks []vmm.Disk) {
	for _, d := range disks {
		_ = d.File.Close()
	}
}

func share(d *virtiofsd.Daemon) vmm.Share {
	return vmm.Share{Tag: storage.Tag, Socket: d.Socket()}
}

// contextOf returns a context that ends with done.
func contextOf(done <-chan struct{}) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-done
		cancel()
	}()
	return ctx
}

// consoleLines is how much of the guest's console an error shows.
const consoleLines = 12

// withConsole adds the last lines of the guest's console to an error.
func withConsole(err error, console string) error {
	lines := strings.Split(strings.TrimSpace(console), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return err
	}
	lines = lines[max(0, len(lines)-consoleLines):]
	return fmt.Errorf("%w; last lines of the guest's console:\n  %s", err, strings.Join(lines, "\n  "))
}
