package check

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/qemu"
	"dougong.dev/dougong/internal/vmm"
)

func probeRoot(_ context.Context, h *Host) Result {
	if h.UID != 0 {
		return fail(fmt.Sprintf("running as user %d", h.UID), "run dougong as root, for example with sudo")
	}
	return ok("running as root")
}

func probeAccelerator(_ context.Context, h *Host) Result {
	accelerator, why, err := h.Accelerator()
	switch {
	case err != nil:
		return fail(err.Error(), "set vm.accelerator to auto or tcg, or use a host with VT-x or AMD-V")
	case accelerator == vmm.TCG && h.Config.VM.Accelerator == string(vmm.TCG):
		return ok("tcg: " + why)
	case accelerator == vmm.TCG:
		return warn("tcg: "+why, "nothing needs mending; for more speed use a host with VT-x or AMD-V")
	}
	return ok(string(accelerator) + ": " + why)
}

func probeQEMU(ctx context.Context, h *Host) Result {
	path, version, err := h.QEMU(ctx)
	switch {
	case path == "":
		return fail(err.Error(), "apt-get install qemu-system-x86, or set vm.qemu")
	case errdefs.IsFailedPrecondition(err):
		return fail(err.Error(), fmt.Sprintf("install QEMU %d.%d or newer", qemu.MinVersion.Major, qemu.MinVersion.Minor))
	case err != nil:
		return fail(err.Error(), "reinstall the package qemu-system-x86")
	}
	return ok(fmt.Sprintf("%s, version %s", path, version))
}

func probeShim(_ context.Context, h *Host) Result {
	path, err := h.Shim()
	if err != nil {
		return fail(err.Error(), "make install, or set runtime.shim")
	}
	return ok(path)
}

// buildFix mends everything that a guest image brings.
const buildFix = "dougong guest build"

// ownBoot says that the configuration names a kernel and an initramfs, so
// that no guest image is needed.
func ownBoot(h *Host) bool { return h.Config.VM.Kernel != "" && h.Config.VM.Initrd != "" }

func probeGuestImage(_ context.Context, h *Host) Result {
	if ownBoot(h) {
		return ok("not needed: vm.kernel and vm.initrd are configured")
	}
	img, err := h.GuestImage()
	if err != nil {
		return fail(err.Error(), buildFix)
	}
	for _, path := range []string{img.Kernel, img.Initrd} {
		if _, err := os.Stat(path); err != nil {
			return fail(fmt.Sprintf("image %s is not whole: %v", img.ID, err), buildFix)
		}
	}
	return ok(fmt.Sprintf("%s, initramfs %s", img.ID, mib(uint64(img.InitrdSize))))
}

func probeKernel(_ context.Context, h *Host) Result {
	if path := h.Config.VM.Kernel; path != "" {
		if !h.exists(path) {
			return fail("vm.kernel is "+path+", which is not there", "set vm.kernel to a kernel, or take it out to use that of the guest image")
		}
		return ok(path)
	}
	if img, err := h.GuestImage(); err == nil {
		return ok(img.Release)
	}
	kernel, err := h.Kernel()
	if err != nil {
		return fail("none in a guest image, and none to build one from", "scripts/fetch-kernel.sh, or apt-get install linux-image-cloud-amd64")
	}
	return ok(kernel.Release + ", for the next guest image")
}

func probeCrun(_ context.Context, h *Host) Result {
	if _, err := h.GuestImage(); err == nil || ownBoot(h) {
		return ok("in the guest image")
	}
	path, err := h.Crun()
	if err != nil {
		return fail("none in a guest image, and none to put there: "+err.Error(), "apt-get install crun, or scripts/build-crun.sh")
	}
	return ok(path + ", for the next guest image")
}

func probeVirtiofsd(_ context.Context, h *Host) Result {
	path, err := h.Virtiofsd()
	if err != nil {
		return warn(err.Error(), "apt-get install qemu-system-common (only -v, --mount type=bind and dir: images need it)")
	}
	return ok(path)
}
