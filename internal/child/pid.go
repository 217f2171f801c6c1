package child

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Program is what StartAs runs.
type Program struct {
	Path      string
	Args, Env []string
	// File becomes descriptor 3; standard streams are this process's.
	File *os.File
	// NewNet gives the process a network namespace of its own.
	NewNet bool
}

// lowFiles is above the descriptors that a program is given.
const lowFiles = 10

// StartAs runs a program under a process id of the caller's choice, which may
// be taken (EEXIST) or beyond what the kernel gives out (EINVAL); 0 leaves the
// choice to the kernel. Whether it ends with this process is the program's own
// matter.
func StartAs(pid int, p Program) (*Process, error) {
	argv, err := syscall.SlicePtrFromStrings(p.Args)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Path, err)
	}
	envv, err := syscall.SlicePtrFromStrings(p.Env)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Path, err)
	}
	path, err := syscall.BytePtrFromString(p.Path)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Path, err)
	}
	file, err := unix.FcntlInt(p.File.Fd(), unix.F_DUPFD_CLOEXEC, lowFiles)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Path, err)
	}
	defer unix.Close(file)
	args := newCloneArgs(pid)
	if p.NewNet {
		args.flags |= unix.CLONE_NEWNET
	}
	var child int
	var errno syscall.Errno
	done := make(chan struct{})
	starter() <- func() {
		defer close(done)
		// Nobody may open files that are not closed on exec meanwhile.
		syscall.ForkLock.Lock()
		defer syscall.ForkLock.Unlock()
		child, errno = cloneExec(args, path, &argv[0], &envv[0], file)
	}
	<-done
	if errno != 0 {
		return nil, fmt.Errorf("start %s as process %d: %w", p.Path, pid, errno)
	}
	return adopt(child)
}

// adopt waits for a child.
func adopt(pid int) (*Process, error) {
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("find process %d: %w", pid, err)
	}
	return follow(process, func() error {
		state, err := process.Wait()
		if err == nil && !state.Success() {
			err = fmt.Errorf("%s", state)
		}
		return err
	}), nil
}

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
	// tid is no part of the kernel's struct: it is what setTID points to.
	tid int32
}

// cloneArgsSize is the size of the kernel's struct.
const cloneArgsSize = unsafe.Offsetof(cloneArgs{}.tid)

// newCloneArgs returns arguments that are on the heap, where they do not move.
//
//go:noinline
func newCloneArgs(pid int) *cloneArgs {
	args := &cloneArgs{flags: unix.CLONE_VFORK, exitSignal: uint64(unix.SIGCHLD), tid: int32(pid)}
	if pid != 0 {
		args.setTID, args.setTIDSize = uint64(uintptr(unsafe.Pointer(&args.tid))), 1
	}
	return args
}

// cloneExec forks and runs a program. The child must neither allocate nor call
// anything that could want more stack or another thread.
//
//go:norace
//go:nosplit
//go:noinline
func cloneExec(args *cloneArgs, path *byte, argv, envv **byte, file int) (pid int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), cloneArgsSize, 0)
	if errno != 0 || r != 0 {
		return int(r), errno
	}
	_, _, _ = syscall.RawSyscall(unix.SYS_DUP3, uintptr(file), 3, 0)
	_, _, _ = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(envv)))
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT, 127, 0, 0)
	}
}
