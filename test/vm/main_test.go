package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"dougong.dev/dougong/internal/image/imagetest"
)

// suite is what all tests share.
var suite struct {
	// bin holds the binaries, guest the guest image, base everything made here.
	bin, guest, base string
	// storage is the image store, and busybox an image as an OCI layout.
	storage, busybox string
	// long asks for the long versions of tests.
	long bool
	// slots bounds how many tests run virtual machines at a time.
	slots chan struct{}
}

// parallel is how many tests run at a time: an emulated virtual machine keeps
// a CPU busy.
const parallel = 2

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("skipped: virtual machine tests must run as root")
		return
	}
	code, err := runSuite(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/vm:", err)
		code = 1
	}
	os.Exit(code)
}

func runSuite(m *testing.M) (code int, err error) {
	if err := findParts(); err != nil {
		return 1, err
	}
	if suite.base, err = os.MkdirTemp("", "dougong-vm-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(suite.base)) }()
	suite.long = os.Getenv("DOUGONG_LONG") != ""
	suite.slots = make(chan struct{}, parallel)
	suite.storage = filepath.Join(suite.base, "storage")
	suite.busybox = filepath.Join(suite.base, "busybox")
	if err := imagetest.BusyboxLayout(suite.busybox, busyboxPath); err != nil {
		return 1, err
	}
	if err := keepGuest(); err != nil {
		return 1, err
	}
	code = m.Run()
	if left := leftInStore(suite.storage); len(left) > 0 {
		return 1, fmt.Errorf("half-made files left in the image store: %q", left)
	}
	return code, nil
}

// busyboxPath is where Debian's busybox-static puts its only program.
const busyboxPath = "/bin/busybox"

func findParts() error {
	suite.bin, suite.guest = os.Getenv("DOUGONG_BIN"), os.Getenv("DOUGONG_GUEST")
	if suite.bin == "" {
		suite.bin = "../../_build/bin"
	}
	if suite.guest == "" {
		suite.guest = "/var/lib/dougong/guest/current"
	}
	var err error
	if suite.bin, err = filepath.Abs(suite.bin); err != nil {
		return err
	}
	for path, cure := range map[string]string{
		filepath.Join(suite.bin, "dougong"):                    "make build",
		filepath.Join(suite.bin, "containerd-shim-dougong-v2"): "make build",
		filepath.Join(suite.guest, kernelFile):                 "make guest",
		filepath.Join(suite.guest, initrdFile):                 "make guest",
		busyboxPath:                                            "apt-get install busybox-static",
	} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w; make it with: %s", err, cure)
		}
	}
	return nil
}

// Files of a guest image.
const (
	kernelFile = "vmlinux"
	initrdFile = "initramfs.cpio"
)

// keepGuest copies the guest image, which may be rebuilt while tests run.
func keepGuest() error {
	for _, name := range []string{kernelFile, initrdFile} {
		if err := copyFile(filepath.Join(suite.base, name), filepath.Join(suite.guest, name)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o444)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// leftInStore lists what interrupted work left in an image store.
func leftInStore(root string) []string {
	left, _ := filepath.Glob(filepath.Join(root, "tmp", "*"))
	return left
}

// numbers gives each installation a directory of its own.
var numbers struct {
	sync.Mutex
	last int
}

func nextNumber() int {
	numbers.Lock()
	defer numbers.Unlock()
	numbers.last++
	return numbers.last
}
