package freeze

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of ptrace(2) that golang.org/x/sys/unix has no functions for.
const (
	ptraceGetSeccompFilter = 0x420c
	ptraceGetRseq          = 0x420f
	ptraceGetSigmask       = 0x420a
	ptraceSetSigmask       = 0x420b
)

// noteXState is the set of registers that XSAVE saves.
const noteXState = 0x202

// maxXState is more than any CPU's.
const maxXState = 16384

// tracer is one that has stopped a process. It must stay on its thread.
type tracer struct {
	pid    int
	memory *os.File
	// changes tells that a thread may have stopped or ended.
	changes chan os.Signal
}

func ptrace(request, tid int, address, data uintptr) (uintptr, error) {
	r, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), address, data, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return r, nil
}

// xstate reads the extended registers.
func xstate(tid int) ([]byte, error) {
	buf := make([]byte, maxXState)
	iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	if _, err := ptrace(unix.PTRACE_GETREGSET, tid, noteXState, uintptr(unsafe.Pointer(&iov))); err != nil {
		return nil, fmt.Errorf("read registers: %w", err)
	}
	return buf[:iov.Len], nil
}

func setXState(tid int, state []byte) error {
	iov := unix.Iovec{Base: &state[0], Len: uint64(len(state))}
	if _, err := ptrace(unix.PTRACE_SETREGSET, tid, noteXState, uintptr(unsafe.Pointer(&iov))); err != nil {
		return fmt.Errorf("write registers: %w", err)
	}
	return nil
}

func sigmask(tid int) (uint64, error) {
	var mask uint64
	if _, err := ptrace(ptraceGetSigmask, tid, 8, uintptr(unsafe.Pointer(&mask))); err != nil {
		return 0, fmt.Errorf("read blocked signals: %w", err)
	}
	return mask, nil
}

func setSigmask(tid int, mask uint64) error {
	if _, err := ptrace(ptraceSetSigmask, tid, 8, uintptr(unsafe.Pointer(&mask))); err != nil {
		return fmt.Errorf("write blocked signals: %w", err)
	}
	return nil
}

// rseq is where a thread has its restartable sequences.
type rseq struct {
	Address   uint64
	Size      uint32
	Signature uint32
	Flags     uint32
	_         uint32
}

func rseqOf(tid int) (rseq, error) {
	var r rseq
	if _, err := ptrace(ptraceGetRseq, tid, unsafe.Sizeof(r), uintptr(unsafe.Pointer(&r))); err != nil {
		return r, fmt.Errorf("read restartable sequences: %w", err)
	}
	return r, nil
}

// robustList is where a thread has its list of mutexes.
func robustList(tid int) (head, size uint64, err error) {
	_, _, errno := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, 0, fmt.Errorf("read list of mutexes: %w", errno)
	}
	return head, size, nil
}

// filters reads a thread's system call filters, the oldest first.
func filters(tid int) ([][]byte, error) {
	var all [][]byte
	for i := 0; ; i++ {
		n, err := ptrace(ptraceGetSeccompFilter, tid, uintptr(i), 0)
		if errors.Is(err, unix.ENOENT) || (errors.Is(err, unix.EINVAL) && i == 0) {
			// No more of them, or no filter at all.
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read system call filter: %w", err)
		}
		code := make([]byte, 8*n)
		if _, err := ptrace(ptraceGetSeccompFilter, tid, uintptr(i), uintptr(unsafe.Pointer(&code[0]))); err != nil {
			return nil, fmt.Errorf("read system call filter: %w", err)
		}
		all = append(all, code)
	}
}

// errNoSystemCall says that a thread is not where it could call the kernel from.
var errNoSystemCall = errors.New("the thread is not in a system call")

// systemCallSize is that of the instruction.
const systemCallSize = 2

// settle sets the registers of a thread that was stopped in a system call so
// that it begins the call once more, as the kernel would have it.
func settle(r *unix.PtraceRegs) {
	const (
		restartSys   = -512
		restartBlock = -516
	)
	if code := int64(r.Rax); int64(r.Orig_rax) >= 0 && code <= restartSys && code >= restartBlock {
		r.Rax = r.Orig_rax
		r.Rip -= systemCallSize
	}
	r.Orig_rax = ^uint64(0)
}

// call has a stopped thread whose settled registers are r make a system call, and
// leaves its registers changed. The site is the address of the instruction.
func (t *tracer) call(tid int, r unix.PtraceRegs, site uint64, number uintptr, args ...uint64) (uint64, error) {
	var a [6]uint64
	copy(a[:], args)
	r.Rip, r.Rax, r.Orig_rax = site, uint64(number), ^uint64(0)
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	if err := unix.PtraceSetRegs(tid, &r); err != nil {
		return 0, fmt.Errorf("write registers: %w", err)
	}
	if err := unix.PtraceSingleStep(tid); err != nil {
		return 0, fmt.Errorf("step: %w", err)
	}
	if _, err := t.await(tid); err != nil {
		return 0, err
	}
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		return 0, fmt.Errorf("read registers: %w", err)
	}
	if code := int64(r.Rax); code < 0 && code > -4096 {
		return 0, fmt.Errorf("system call %d: %w", number, unix.Errno(-code))
	}
	return r.Rax, nil
}

// isSystemCall says whether the instruction at an address is a system call.
func (t *tracer) isSystemCall(at uint64) bool {
	var code [systemCallSize]byte
	_, err := t.memory.ReadAt(code[:], int64(at))
	return err == nil && code == [2]byte{0x0f, 0x05}
}

// word reads 64 bits.
func (t *tracer) word(at uint64) (uint64, error) {
	var b [8]byte
	if _, err := t.memory.ReadAt(b[:], int64(at)); err != nil {
		return 0, fmt.Errorf("read memory at %#x: %w", at, err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}
