// Package identity makes a virtual machine one of its own: entropy, clock,
// host name and kernel parameters.
//
// It owns the system calls for that and must not know who asks. Everything
// in it can be done again without harm.
package identity

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	// minEntropy is a full seed of the kernel's generator, in bytes.
	minEntropy = 32
	maxEntropy = 4096
	maxName    = 64
)

// The requests of random(4), as <linux/random.h> has them.
const (
	rndAddEntropy = 0x40085203
	rndReseedCRNG = 0x5207
)

// Seed credits random bytes to the kernel's generator and reseeds it from
// them, so that two copies of one machine part ways.
func Seed(random []byte) error {
	if len(random) < minEntropy || len(random) > maxEntropy {
		return fmt.Errorf("seed random generator: %d bytes of entropy, want %d to %d: %w",
			len(random), minEntropy, maxEntropy, errdefs.ErrInvalidArgument)
	}
	// Not by os.OpenFile: that asks the poller for devices and files in /proc,
	// which is much code for a machine that has run none of it.
	fd, err := unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("seed random generator: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	pool := poolInfo(random)
	if err := ioctl(fd, rndAddEntropy, uintptr(unsafe.Pointer(&pool[0]))); err != nil {
		return fmt.Errorf("add entropy: %w", err)
	}
	if err := ioctl(fd, rndReseedCRNG, 0); err != nil {
		return fmt.Errorf("reseed random generator: %w", err)
	}
	return nil
}

// poolInfo is struct rand_pool_info: bits, bytes, and the bytes themselves.
func poolInfo(random []byte) []byte {
	var b []byte
	b = binary.NativeEndian.AppendUint32(b, uint32(len(random)*8))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(random)))
	return append(b, random...)
}

func ioctl(fd int, request, arg uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg); errno != 0 {
		return errno
	}
	return nil
}

// SetClock sets the machine's wall clock.
func SetClock(now time.Time) error {
	ts, err := unix.TimeToTimespec(now)
	if err != nil {
		return fmt.Errorf("set clock to %v: %w", now, err)
	}
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set clock to %v: %w", now, err)
	}
	return nil
}

// SetHostname sets the host name of the machine's first UTS namespace.
func SetHostname(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("host name %q: %w", name, errdefs.ErrInvalidArgument)
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name %q: %w", name, err)
	}
	return nil
}

// SetSysctls writes kernel parameters, named in the style of
// "net.ipv4.ip_forward", below proc ("/proc/sys").
func SetSysctls(proc string, values map[string]string) error {
	var errs []error
	for name, value := range values {
		path := strings.ReplaceAll(name, ".", "/")
		if !filepath.IsLocal(path) {
			errs = append(errs, fmt.Errorf("sysctl %q: %w", name, errdefs.ErrInvalidArgument))
			continue
		}
		if err := write(filepath.Join(proc, path), value); err != nil {
			errs = append(errs, fmt.Errorf("set sysctl %s to %q: %w", name, value, err))
		}
	}
	return errors.Join(errs...)
}

// Process ids begin anew somewhere between these.
const (
	lowPID  = 10000
	highPID = 30000
)

// ScatterPIDs lets the next process ids follow a number of chance: hosts give
// the processes of a machine stand-ins with the same ids, and those right after
// the boot are the same in all machines and taken on the host.
func ScatterPIDs(proc string) error {
	var chance [4]byte
	// crypto/rand.Read never fails on Linux.
	_, _ = rand.Read(chance[:])
	last := strconv.Itoa(lowPID + int(binary.NativeEndian.Uint32(chance[:])%(highPID-lowPID)))
	if err := write(filepath.Join(proc, "sys/kernel/ns_last_pid"), last); err != nil {
		return fmt.Errorf("choose process ids: %w", err)
	}
	return nil
}

// write sets a file of the kernel, which takes a value in one piece.
func write(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	_, err = unix.Write(fd, []byte(value))
	return err
}
