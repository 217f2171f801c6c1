package freeze

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/child"
)

// Known says what a process's files are for those that cannot be made again.
type Known struct {
	// Numbers are names of open files by their numbers.
	Numbers map[int]string
	// Files are names of files, wherever they are open or mapped. One that is
	// mapped to be shared is mapped in copies so that what they write is their own.
	Files map[FileID]string
}

// FileID tells a file from all others.
type FileID = fileID

// Identify returns what tells a file from all others.
func Identify(f *os.File) (FileID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return FileID{}, fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	return FileID{st.Dev, st.Ino}, nil
}

// helperName is what this program is called when it takes a process apart.
const helperName = "dougong-freeze"

// order is what the helper is told.
type order struct {
	PID     int
	Dir     string
	Numbers map[int]string
	Files   []namedFile
}

type namedFile struct {
	ID   FileID
	Name string
}

// Freeze writes a process into a directory. The process is stopped meanwhile
// and goes on afterwards. Nothing must be on its way to it or from it: what lies
// in a socket or pipe is not kept.
//
// Another process does it, which is this program once more (see IsHelper): whoever waits for
// the end of a child would be told of its stops too, if they were this process's.
func Freeze(ctx context.Context, pid int, dir string, known Known) error {
	o := order{PID: pid, Dir: dir, Numbers: known.Numbers}
	for id, name := range known.Files {
		o.Files = append(o.Files, namedFile{id, name})
	}
	input, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("freeze process %d: %w", pid, err)
	}
	var said bytes.Buffer
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Stdin, cmd.Stderr = []string{helperName}, bytes.NewReader(input), &said
	helper, err := child.Start(cmd)
	if err != nil {
		return fmt.Errorf("freeze process %d: %w", pid, err)
	}
	select {
	case <-helper.Done():
	case <-ctx.Done():
		helper.Kill()
		return fmt.Errorf("freeze process %d: %w", pid, context.Cause(ctx))
	}
	if err := helper.Err(); err != nil {
		return fmt.Errorf("freeze process %d: %s: %w", pid, strings.TrimSpace(said.String()), err)
	}
	return nil
}

// IsHelper says that this process was started by Freeze, and has to call Helper.
func IsHelper() bool { return len(os.Args) == 1 && os.Args[0] == helperName }

// Helper does what Freeze has ordered.
func Helper() error {
	// Only the thread that has stopped a process may look into it.
	runtime.LockOSThread()
	var o order
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return fmt.Errorf("read what to freeze: %w", err)
	}
	known := Known{Numbers: o.Numbers, Files: map[FileID]string{}}
	for _, f := range o.Files {
		known.Files[f.ID] = f.Name
	}
	return freeze(o.PID, o.Dir, known)
}

func freeze(pid int, dir string, known Known) error {
	t, err := newTracer(pid)
	if err != nil {
		return err
	}
	defer t.close()
	tids, err := t.stopIdle()
	defer func() { letGo(tids) }()
	if err != nil {
		return err
	}
	f := &freezer{tracer: t, known: known, tids: tids, slots: map[string]int{}}
	if f.image.BootID, err = BootID(); err != nil {
		return err
	}
	pages, err := os.OpenFile(filepath.Join(dir, filePages), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer pages.Close()
	f.pages = pages
	if err := f.take(); err != nil {
		return err
	}
	return f.image.save(dir)
}

// letGo has threads go on that were stopped.
func letGo(tids []int) {
	for _, tid := range tids {
		_ = unix.PtraceDetach(tid)
	}
}

// A process that has just been told something is busy for a moment.
const (
	idleTries = 2000
	idlePause = 2 * time.Millisecond
)

// stopIdle stops all threads at a time when the first one waits for something,
// and returns those that it has stopped after an error too.
func (t *tracer) stopIdle() (tids []int, err error) {
	for range idleTries {
		if tids, err = t.stop(); err != nil {
			return tids, err
		}
		var r unix.PtraceRegs
		if err = unix.PtraceGetRegs(tids[0], &r); err != nil {
			return tids, fmt.Errorf("read registers: %w", err)
		}
		if settle(&r); t.isSystemCall(r.Rip) {
			return tids, nil
		}
		letGo(tids)
		<-time.After(idlePause)
	}
	return nil, errNoSystemCall
}

// stop stops all threads, and returns those that it has stopped after an error too.
func (t *tracer) stop() ([]int, error) {
	stopped := map[int]bool{}
	var order []int
	for {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.pid))
		if err != nil {
			return order, err
		}
		more := false
		for _, e := range entries {
			tid, err := strconv.Atoi(e.Name())
			if err != nil || stopped[tid] {
				continue
			}
			if _, err := ptrace(unix.PTRACE_SEIZE, tid, 0, 0); err != nil {
				return order, fmt.Errorf("stop thread %d: %w", tid, err)
			}
			if err := unix.PtraceInterrupt(tid); err != nil {
				return order, fmt.Errorf("stop thread %d: %w", tid, err)
			}
			if _, err := t.await(tid); err != nil {
				return order, err
			}
			stopped[tid], more = true, true
			order = append(order, tid)
		}
		// A thread that was not stopped may have started another.
		if !more {
			return order, nil
		}
	}
}

// freezer takes one process apart.
type freezer struct {
	*tracer
	known Known
	tids  []int
	slots map[string]int
	image Image
	pages *os.File
	// filled is how much of pages is in use.
	filled int64

	registers []unix.PtraceRegs
	program   *program
	open      []descriptor
}

func (f *freezer) take() error {
	f.program = newProgram(dataAddress)
	for _, part := range []func() error{f.takeRegisters, f.takeFiles, f.takeMemory, f.takeSignals, f.takeRest, f.takeThreads} {
		if err := part(); err != nil {
			return err
		}
	}
	f.image.Steps, f.image.Data, f.image.Pages = f.program.steps, f.program.data, f.filled
	if len(f.image.Steps) > maxSteps || len(f.image.Data) > maxData {
		return fmt.Errorf("its description of %d and %d bytes is too long", len(f.image.Steps), len(f.image.Data))
	}
	return nil
}

// takeRegisters reads the registers of all threads, and leaves each so that it
// begins its system call anew. The first thread must be in one, which is where
// others are made from.
func (f *freezer) takeRegisters() error {
	for _, tid := range f.tids {
		var r unix.PtraceRegs
		if err := unix.PtraceGetRegs(tid, &r); err != nil {
			return fmt.Errorf("read registers: %w", err)
		}
		settle(&r)
		if err := unix.PtraceSetRegs(tid, &r); err != nil {
			return fmt.Errorf("write registers: %w", err)
		}
		f.registers = append(f.registers, r)
	}
	f.image.Site = f.registers[0].Rip
	return nil
}

// takeSignals has the handlers set as they are.
func (f *freezer) takeSignals() error {
	const size = 32
	// Below what the thread has on its stack, and what it may have below that.
	scratch := (f.registers[0].Rsp - 4096) &^ 15
	defer func() { _ = unix.PtraceSetRegs(f.tids[0], &f.registers[0]) }()
	for signal := uint64(1); signal <= 64; signal++ {
		if signal == uint64(unix.SIGKILL) || signal == uint64(unix.SIGSTOP) {
			continue
		}
		if _, err := f.call(f.tids[0], f.registers[0], f.image.Site, unix.SYS_RT_SIGACTION, signal, 0, scratch, 8); err != nil {
			return fmt.Errorf("read handler of signal %d: %w", signal, err)
		}
		action := make([]byte, size)
		if _, err := f.memory.ReadAt(action, int64(scratch)); err != nil {
			return fmt.Errorf("read handler of signal %d: %w", signal, err)
		}
		if binary.LittleEndian.Uint64(action) != 0 {
			f.program.call(unix.SYS_RT_SIGACTION, signal, f.program.bytes(action), 0, 8)
		}
	}
	return nil
}

// takeRest is what the kernel keeps for a process as a whole.
func (f *freezer) takeRest() error {
	mm, err := f.memoryMap()
	if err != nil {
		return err
	}
	f.image.Title = place{"arguments", mm[7], mm[8]}
	f.program.call(unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP, f.program.words(mm...), uint64(8*len(mm)))
	f.program.call(unix.SYS_UMASK, 0o022)
	code, err := filters(f.tids[0])
	if err != nil {
		return err
	}
	if len(code) > 0 {
		f.program.call(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	}
	for _, c := range code {
		// struct sock_fprog: how many instructions, and where.
		fprog := f.program.words(uint64(len(c)/8), f.program.bytes(c))
		f.program.call(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, fprog)
	}
	return nil
}

// memoryMap is struct prctl_mm_map: where code, data, heap, stack, arguments and
// environment are.
func (f *freezer) memoryMap() ([]uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", f.pid))
	if err != nil {
		return nil, err
	}
	// The second field is a name, which may have anything in it.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	const before = 3
	var n [52]uint64
	for _, i := range []int{26, 27, 28, 45, 46, 47, 48, 49, 50, 51} {
		if i-before >= len(fields) {
			return nil, errors.New("read where its parts are: the kernel does not tell")
		}
		if n[i], err = strconv.ParseUint(fields[i-before], 10, 64); err != nil {
			return nil, fmt.Errorf("read where its parts are: %w", err)
		}
	}
	brk, err := f.call(f.tids[0], f.registers[0], f.image.Site, unix.SYS_BRK, 0)
	if err != nil {
		return nil, err
	}
	_ = unix.PtraceSetRegs(f.tids[0], &f.registers[0])
	const noFile = 0xffffffff << 32
	return []uint64{n[26], n[27], n[45], n[46], n[47], brk, n[28], n[48], n[49], n[50], n[51], 0, noFile}, nil
}

// takeThreads has the other threads made, and each be what it was.
func (f *freezer) takeThreads() error {
	const flags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD |
		unix.CLONE_SYSVSEM | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID
	for i, tid := range f.tids {
		th, err := f.thread(tid, f.registers[i])
		if err != nil {
			return fmt.Errorf("thread %d: %w", tid, err)
		}
		f.image.Threads = append(f.image.Threads, th)
		if i > 0 {
			// The flags are those of every thread: QEMU's filter wants all of them.
			f.program.call(unix.SYS_CLONE, flags, 0, th.TID, th.TID, th.Registers.Fs_base)
		}
	}
	f.program.end()
	return nil
}

// robustOffset is how far behind a thread's id glibc has the head of its list of
// robust mutexes.
const robustOffset = 16

func (f *freezer) thread(tid int, r unix.PtraceRegs) (thread, error) {
	th := thread{Registers: r}
	var err error
	if th.Extended, err = xstate(tid); err != nil {
		return th, err
	}
	if th.Blocked, err = sigmask(tid); err != nil {
		return th, err
	}
	head, size, err := robustList(tid)
	if err != nil {
		return th, err
	}
	th.TID = head - robustOffset
	if id, err := f.word(th.TID); err != nil || int(uint32(id)) != tid {
		return th, fmt.Errorf("its id is not where this C library has it: %w", errors.Join(errUnknownLibrary, err))
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/comm", f.pid, tid))
	if err != nil {
		return th, err
	}
	rs, err := rseqOf(tid)
	if err != nil {
		return th, err
	}
	own := newProgram(0)
	own.call(unix.SYS_SET_TID_ADDRESS, th.TID)
	own.call(unix.SYS_SET_ROBUST_LIST, head, size)
	if rs.Address != 0 {
		own.call(unix.SYS_RSEQ, rs.Address, uint64(rs.Size), 0, uint64(rs.Signature))
	}
	own.call(unix.SYS_PRCTL, unix.PR_SET_NAME, f.program.text(strings.TrimSpace(string(name))))
	own.end()
	th.Steps = own.steps
	return th, nil
}

// errUnknownLibrary says that the process's C library keeps its threads in
// another way than is known here.
var errUnknownLibrary = errors.New("unknown C library")
