package check

import (
	"context"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/config"
	"dougong.dev/dougong/internal/guestimage"
	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/virtiofsd"
	"dougong.dev/dougong/internal/vmm"
)

// Host is what probes ask. Tests put their own answers in.
type Host struct {
	Config config.Config
	// Root is put before every path that is read; empty on a real host.
	Root string
	// UID is the effective user id.
	UID int
	// Accelerator resolves the configured accelerator and says why.
	Accelerator func() (vmm.Accelerator, string, error)
	// QEMU finds the binary and its version.
	QEMU func(context.Context) (path string, version qemu.Version, err error)
	// GuestImage returns the image that sandboxes boot.
	GuestImage func() (*guestimage.Image, error)
	// Kernel finds a kernel from which a guest image could be built.
	Kernel func() (guestimage.Kernel, error)
	// Virtiofsd finds the daemon for shared directories.
	Virtiofsd func() (string, error)
	// Shim finds the binary of the sandbox process.
	Shim func() (string, error)
	// Crun finds the crun from which a guest image would be built.
	Crun func() (string, error)
	// Writable says why nothing can be made where a path is or would be; nil
	// when it can.
	Writable func(path string) error
	// Space returns the bytes that are free where a path is or would be.
	Space func(path string) (uint64, error)
}

// NewHost returns this host under a configuration. shim and crun find the
// binaries that the command line installs beside itself.
func NewHost(cfg config.Config, shim, crun func() (string, error)) *Host {
	return &Host{
		Config: cfg,
		UID:    os.Geteuid(),
		Accelerator: func() (vmm.Accelerator, string, error) {
			return qemu.DetectAccelerator(vmm.Accelerator(cfg.VM.Accelerator))
		},
		QEMU: func(ctx context.Context) (string, qemu.Version, error) {
			path, err := qemu.FindBinary(cfg.VM.QEMU)
			if err != nil {
				return "", qemu.Version{}, err
			}
			version, err := qemu.QueryVersion(ctx, path)
			return path, version, err
		},
		GuestImage: func() (*guestimage.Image, error) {
			return guestimage.Current(filepath.Join(cfg.Storage.Root, "guest"))
		},
		Kernel:    func() (guestimage.Kernel, error) { return guestimage.FindKernel("/") },
		Virtiofsd: func() (string, error) { return virtiofsd.Find(cfg.Share.Virtiofsd) },
		Shim:      shim,
		Crun:      crun,
		Writable:  writable,
		Space:     freeSpace,
	}
}

// freeSpace goes up to the nearest directory that exists: the one asked for
// may not have been made yet.
func freeSpace(path string) (uint64, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if err == nil {
			return st.Bavail * uint64(st.Bsize), nil
		}
		parent := filepath.Dir(path)
		if parent == path || err != unix.ENOENT {
			return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
		}
		path = parent
	}
}

// writable asks for the nearest directory that exists.
func writable(path string) error {
	for {
		err := unix.Access(path, unix.W_OK|unix.X_OK)
		if err == nil {
			if info, err := os.Stat(path); err != nil || !info.IsDir() {
				return &os.PathError{Op: "access", Path: path, Err: unix.ENOTDIR}
			}
			return nil
		}
		parent := filepath.Dir(path)
		if parent == path || err != unix.ENOENT {
			return &os.PathError{Op: "access", Path: path, Err: err}
		}
		path = parent
	}
}

// path is a path on the host that is looked at.
func (h *Host) path(path string) string { return filepath.Join(h.Root, path) }

// exists says whether there is something at path.
func (h *Host) exists(path string) bool {
	_, err := os.Stat(h.path(path))
	return err == nil
}
