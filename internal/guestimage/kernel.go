package guestimage

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Kernel is a kernel with its modules as a distribution packages them.
type Kernel struct {
	// Release is what uname -r prints in the guest.
	Release string
	// Image is the path of the bzImage or vmlinux.
	Image string
	// Modules is the directory of loadable modules; empty when there are none.
	Modules string
}

// FindKernel looks for the newest kernel below root, which is laid out like a
// host: boot/vmlinuz-RELEASE or boot/vmlinux-RELEASE, and lib/modules/RELEASE.
// Kernels that are made for virtual machines go first: they are small and have
// what a VM needs.
func FindKernel(root string) (Kernel, error) {
	images, err := kernelImages(root)
	if err != nil {
		return Kernel{}, fmt.Errorf("look for a kernel below %s: %w", root, err)
	}
	for _, image := range slices.Backward(images) {
		release := kernelRelease(image)
		modules := filepath.Join(root, "lib", "modules", release)
		if _, err := os.Stat(modules); err == nil {
			return Kernel{Release: release, Image: image, Modules: modules}, nil
		}
		if isMonolithic(filepath.Join(root, "boot", "config-"+release)) {
			return Kernel{Release: release, Image: image}, nil
		}
	}
	return Kernel{}, fmt.Errorf("no kernel with its modules below %s: fetch one with scripts/fetch-kernel.sh, build one with scripts/build-kernel.sh, or install linux-image-cloud-amd64", root)
}

// kernelImages lists the kernels below root, the ones to prefer at the end.
func kernelImages(root string) ([]string, error) {
	var images []string
	for _, prefix := range kernelPrefixes {
		found, err := filepath.Glob(filepath.Join(root, "boot", prefix+"*"))
		if err != nil {
			return nil, err
		}
		images = append(images, found...)
	}
	slices.SortStableFunc(images, func(a, b string) int { return compareKernels(kernelRelease(a), kernelRelease(b)) })
	return images, nil
}

// kernelPrefixes are those of the file names of kernels. Of two of the same
// release the latter is taken, which need not be unpacked.
var kernelPrefixes = []string{"vmlinuz-", "vmlinux-"}

func kernelRelease(image string) string {
	release := filepath.Base(image)
	for _, prefix := range kernelPrefixes {
		release = strings.TrimPrefix(release, prefix)
	}
	return release
}

// isMonolithic tells from a kernel's configuration that it can have no
// modules. Without any configuration it may.
func isMonolithic(path string) bool {
	configuration, err := os.ReadFile(path)
	return err == nil && slices.Contains(strings.Split(string(configuration), "\n"), "# CONFIG_MODULES is not set")
}

// compareKernels puts Debian's cloud kernels over others, and over these the
// kernels that scripts/build-kernel.sh builds.
func compareKernels(a, b string) int {
	if c := kernelRank(a) - kernelRank(b); c != 0 {
		return c
	}
	return compareVersions(a, b)
}

func kernelRank(release string) int {
	switch {
	case strings.HasSuffix(release, "-dougong"):
		return 2
	case strings.Contains(release, "-cloud-"):
		return 1
	}
	return 0
}

// compareVersions compares runs of digits by value and the rest by bytes.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			if c := strings.Compare(x, y); c != 0 {
				return c
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// maxKernel bounds an unpacked kernel.
const maxKernel = 512 << 20

// Unpack returns the ELF kernel in image, which is one or a bzImage.
func Unpack(image []byte) ([]byte, error) {
	if bytes.HasPrefix(image, []byte(elf.ELFMAG)) {
		return image, nil
	}
	payload, err := bzImagePayload(image)
	if err != nil {
		return nil, err
	}
	kernel, err := decompress(payload)
	if err != nil {
		return nil, fmt.Errorf("unpack the kernel in the bzImage: %w", err)
	}
	if !bytes.HasPrefix(kernel, []byte(elf.ELFMAG)) {
		return nil, errors.New("unpack the kernel in the bzImage: what is in it is not ELF")
	}
	return kernel, nil
}

// Offsets in the setup header, from the kernel's x86 boot protocol.
const (
	offSetupSects    = 0x1f1
	offMagic         = 0x202
	offVersion       = 0x206
	offPayload       = 0x248
	offPayloadLength = 0x24c
	// protocolPayload is the first boot protocol with payload fields.
	protocolPayload = 0x208
)

// bzImagePayload returns the compressed kernel in a bzImage.
func bzImagePayload(image []byte) ([]byte, error) {
	if len(image) < offPayloadLength+4 || string(image[offMagic:offMagic+4]) != "HdrS" {
		return nil, errors.New("the kernel is neither ELF nor a bzImage")
	}
	le := binary.LittleEndian
	if v := le.Uint16(image[offVersion:]); v < protocolPayload {
		return nil, fmt.Errorf("the bzImage's boot protocol %#x is too old: want %#x or newer", v, protocolPayload)
	}
	sects := uint64(image[offSetupSects])
	if sects == 0 {
		sects = 4
	}
	start := (sects+1)*512 + uint64(le.Uint32(image[offPayload:]))
	end := start + uint64(le.Uint32(image[offPayloadLength:]))
	if start > end || end > uint64(len(image)) {
		return nil, fmt.Errorf("the bzImage is cut short: its payload ends at byte %d of %d", end, len(image))
	}
	return image[start:end], nil
}

// decompress unpacks by the first bytes. The kernel's build appends the
// unpacked size, which the decoders must not stumble over.
func decompress(payload []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(payload, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return decompressXZ(payload)
	case bytes.HasPrefix(payload, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, err
		}
		r.Multistream(false)
		return readBounded(r)
	case bytes.HasPrefix(payload, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err := zstd.NewReader(bytes.NewReader(cutSize(payload)), zstd.WithDecoderMaxMemory(maxKernel))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return readBounded(r)
	case bytes.HasPrefix(payload, []byte{0x02, 0x21, 0x4c, 0x18}):
		return readBounded(lz4.NewReader(bytes.NewReader(cutSize(payload))))
	}
	return nil, fmt.Errorf("compression that starts with % x is not known (known: xz, gzip, zstd, lz4)", payload[:min(6, len(payload))])
}

func cutSize(payload []byte) []byte { return payload[:max(0, len(payload)-4)] }

// decompressXZ uses the xz program: kernels are packed with the x86 filter,
// which Go's packages do not know.
func decompressXZ(payload []byte) ([]byte, error) {
	cmd := exec.Command("xz", "--decompress", "--stdout", "--single-stream", "--memlimit=1GiB")
	cmd.Stdin = bytes.NewReader(payload)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run xz (package xz-utils): %w", err)
	}
	kernel, readErr := readBounded(out)
	if readErr != nil {
		_ = cmd.Process.Kill()
	}
	if err := cmd.Wait(); err != nil && readErr == nil {
		return nil, fmt.Errorf("xz: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return kernel, readErr
}

func readBounded(r io.Reader) ([]byte, error) { return readAtMost(r, maxKernel) }

func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it unpacks to more than %d bytes", limit)
	}
	return data, nil
}
