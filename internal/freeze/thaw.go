package freeze

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/child"
)

// Places are what a copy of a process gets of its own.
type Places struct {
	// Files are by the names that the process was frozen with; they are the
	// copy's under the same numbers as there, and stay the caller's too.
	Files map[string]*os.File
	// Shared are the names of those that were mapped to be shared, and are to be
	// so again. The others are mapped so that what the copy writes is its own.
	Shared []string
	// Title are the arguments that others see of it, as far as there is room.
	Title []string
	// Attr are of the process.
	Attr *syscall.SysProcAttr
}

// Thaw starts a copy of the process. The kernel kills it when this process ends.
func (i *Image) Thaw(p Places) (*child.Process, error) {
	c, err := i.thaw(p)
	if err != nil {
		return nil, fmt.Errorf("thaw process: %w", err)
	}
	return c, nil
}

func (i *Image) thaw(p Places) (*child.Process, error) {
	cmd, release, err := i.stub(p)
	defer release()
	if err != nil {
		return nil, err
	}
	return child.StartWith(cmd, func(pid int) error { return i.build(pid, p) })
}

// stub is what becomes the process, and stops at its beginning.
func (i *Image) stub(p Places) (cmd *exec.Cmd, release func(), err error) {
	slots, releaseSlots, err := i.fill(p.Files)
	if err != nil {
		return nil, releaseSlots, err
	}
	stub, err := openStub()
	if err != nil {
		return nil, releaseSlots, err
	}
	cmd = exec.Command(fmt.Sprintf("/proc/self/fd/%d", firstFile+len(slots)))
	cmd.Args, cmd.Env, cmd.Dir = []string{"dougong-thaw"}, []string{}, "/"
	cmd.ExtraFiles = append(slots, stub)
	attr := syscall.SysProcAttr{}
	if p.Attr != nil {
		attr = *p.Attr
	}
	attr.Ptrace = true
	cmd.SysProcAttr = &attr
	return cmd, func() { releaseSlots(); _ = stub.Close() }, nil
}

// flagsOffset is that of mmap's flags in a step.
const flagsOffset = 4 * 8

// steps is the program, with these files mapped to be shared.
func (i *Image) steps(shared []string) []byte {
	steps := slices.Clone(i.Steps)
	for _, s := range i.Shared {
		if slices.Contains(shared, s.Name) {
			flags := steps[s.At+flagsOffset:]
			binary.LittleEndian.PutUint64(flags, binary.LittleEndian.Uint64(flags)&^unix.MAP_PRIVATE|unix.MAP_SHARED)
		}
	}
	return steps
}

// firstFile is the number of the first of exec.Cmd's ExtraFiles.
const firstFile = 3

// openStub returns a file without a name that is the stub.
func openStub() (*os.File, error) {
	fd, err := unix.MemfdCreate("thaw", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		// A kernel before 6.3 has no such flag, and needs none.
		fd, err = unix.MemfdCreate("thaw", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("make stub: %w", err)
	}
	writable := os.NewFile(uintptr(fd), "thaw")
	defer writable.Close()
	if _, err := writable.Write(stubProgram()); err != nil {
		return nil, fmt.Errorf("make stub: %w", err)
	}
	// What is open for writing cannot be executed.
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// fill returns the files for the slots.
func (i *Image) fill(files map[string]*os.File) (slots []*os.File, release func(), err error) {
	var opened []*os.File
	release = func() {
		for _, f := range opened {
			_ = f.Close()
		}
	}
	for _, name := range i.Slots {
		f := files[name]
		switch name {
		case slotPages:
			f, err = os.Open(filepath.Join(i.dir, filePages))
		case slotNothing:
			f, err = os.Open(os.DevNull)
		default:
			if f == nil {
				return nil, release, fmt.Errorf("there is no file %q", name)
			}
			slots = append(slots, f)
			continue
		}
		if err != nil {
			return nil, release, err
		}
		opened = append(opened, f)
		slots = append(slots, f)
	}
	return slots, release, nil
}

// builder makes the process in a stub that has stopped at its beginning.
type builder struct {
	*tracer
	image  *Image
	places Places
	code   unix.PtraceRegs
	// tids are those of the threads, in the order of the image.
	tids []int
}

func (i *Image) build(pid int, p Places) error {
	t, err := newTracer(pid)
	if err != nil {
		return err
	}
	defer t.close()
	b := &builder{tracer: t, image: i, places: p, tids: []int{pid}}
	for _, part := range []func() error{b.begin, b.write, b.run, b.finish} {
		if err := part(); err != nil {
			b.kill()
			return err
		}
	}
	return nil
}

// begin waits until the stub has stopped.
func (b *builder) begin() error {
	if _, err := b.await(b.pid); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(b.pid, unix.PTRACE_O_EXITKILL|unix.PTRACE_O_TRACECLONE); err != nil {
		return fmt.Errorf("stop stub: %w", err)
	}
	if err := unix.PtraceGetRegs(b.pid, &b.code); err != nil {
		return fmt.Errorf("read registers: %w", err)
	}
	b.code.Rip, b.code.Orig_rax = codeBase, ^uint64(0)
	return nil
}

// kill ends what was made.
func (b *builder) kill() {
	_ = unix.Kill(b.pid, unix.SIGKILL)
	b.awaitOthers()
}

// write puts the programs into the stub.
func (b *builder) write() error {
	first, err := b.first()
	if err != nil {
		return err
	}
	for _, part := range []struct {
		what    []byte
		address int64
	}{{first, dataBase}, {b.image.steps(b.places.Shared), stepAddress}, {b.image.Data, dataAddress}} {
		if _, err := b.memory.WriteAt(part.what, part.address); err != nil {
			return fmt.Errorf("write program: %w", err)
		}
	}
	return nil
}

// first is the program that makes room: the stub's stack goes, the kernel's
// areas come to where the process has them, and the files to their slots.
func (b *builder) first() ([]byte, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", b.pid))
	if err != nil {
		return nil, err
	}
	areas, err := parseMaps(string(data))
	if err != nil {
		return nil, err
	}
	p := newProgram(0)
	waiting := map[string]uint64{}
	next := uint64(aside)
	for _, a := range areas {
		switch {
		case a.kernels():
			p.call(unix.SYS_MREMAP, a.start, a.size(), a.size(), unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, next)
			waiting[a.path] = next
			next += a.size()
		case a.start >= stubEnd && !a.global():
			p.call(unix.SYS_MUNMAP, a.start, a.size())
		}
	}
	if len(waiting) != len(b.image.Kernel) {
		return nil, errOtherBoot
	}
	for _, k := range b.image.Kernel {
		from, ok := waiting[k.Name]
		if !ok {
			return nil, errOtherBoot
		}
		p.call(unix.SYS_MREMAP, from, k.End-k.Start, k.End-k.Start, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, k.Start)
	}
	for n := range b.image.Slots {
		p.call(unix.SYS_DUP3, uint64(firstFile+n), uint64(firstSlot+n), unix.O_CLOEXEC)
	}
	p.call(unix.SYS_CLOSE_RANGE, 0, firstSlot-1, 0)
	if len(p.steps) > maxFirst {
		return nil, errors.New("too many files")
	}
	// What follows is the image's own program.
	for len(p.steps) < maxFirst {
		p.call(unix.SYS_GETPID)
	}
	return p.steps, nil
}

// run has the stub make memory, files and threads.
func (b *builder) run() error {
	if err := b.proceed(b.pid, dataBase); err != nil {
		return err
	}
	for {
		status, err := b.await(b.pid)
		if err != nil {
			return err
		}
		if status>>8 != unix.WaitStatus(unix.SIGTRAP|unix.PTRACE_EVENT_CLONE<<8) {
			return b.ended(b.pid)
		}
		tid, err := unix.PtraceGetEventMsg(b.pid)
		if err != nil {
			return fmt.Errorf("read new thread: %w", err)
		}
		if _, err := b.await(int(tid)); err != nil {
			return err
		}
		b.tids = append(b.tids, int(tid))
		if err := unix.PtraceCont(b.pid, 0); err != nil {
			return fmt.Errorf("go on: %w", err)
		}
	}
}

// proceed has a thread run the program at an address.
func (b *builder) proceed(tid int, address uint64) error {
	r := b.code
	r.R12 = address
	if err := unix.PtraceSetRegs(tid, &r); err != nil {
		return fmt.Errorf("write registers: %w", err)
	}
	if err := unix.PtraceCont(tid, 0); err != nil {
		return fmt.Errorf("go on: %w", err)
	}
	return nil
}

// ended checks that a thread has stopped at the end of its program.
func (b *builder) ended(tid int) error {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		return fmt.Errorf("read registers: %w", err)
	}
	if r.Rip != codeBase+uint64(len(stubCode)) {
		return fmt.Errorf("the stub stopped at %#x", r.Rip)
	}
	number, err := b.word(r.R12)
	if err != nil {
		return err
	}
	if number == endOfProgram {
		return nil
	}
	var arguments [6]uint64
	for i := range arguments {
		arguments[i], _ = b.word(r.R12 + uint64(8+8*i))
	}
	return fmt.Errorf("system call %d with %#x: %w", number, arguments, unix.Errno(-int64(r.Rax)))
}

// finish makes each thread what it was, and lets all go.
func (b *builder) finish() error {
	if len(b.tids) != len(b.image.Threads) {
		return fmt.Errorf("%d threads and not %d", len(b.tids), len(b.image.Threads))
	}
	for n, th := range b.image.Threads {
		if err := b.settle(b.tids[n], th); err != nil {
			return err
		}
	}
	if err := b.title(); err != nil {
		return err
	}
	main := b.image.Threads[0].Registers
	if _, err := b.call(b.pid, main, b.image.Site, unix.SYS_CLOSE_RANGE, firstSlot, ^uint64(0)>>32, 0); err != nil {
		return err
	}
	if _, err := b.call(b.pid, main, b.image.Site, unix.SYS_MUNMAP, stubBase, stubEnd-stubBase); err != nil {
		return err
	}
	for n, th := range b.image.Threads {
		if err := unix.PtraceSetRegs(b.tids[n], &th.Registers); err != nil {
			return fmt.Errorf("write registers: %w", err)
		}
	}
	for _, tid := range b.tids {
		if err := unix.PtraceDetach(tid); err != nil {
			return fmt.Errorf("let thread go: %w", err)
		}
	}
	return nil
}

// title writes the arguments.
func (b *builder) title() error {
	place := make([]byte, b.image.Title.End-b.image.Title.Start)
	copy(place[:len(place)-1], strings.Join(b.places.Title, "\x00"))
	if _, err := b.memory.WriteAt(place, int64(b.image.Title.Start)); err != nil {
		return fmt.Errorf("write arguments: %w", err)
	}
	return nil
}

// settle gives a thread what it is to the kernel.
func (b *builder) settle(tid int, th thread) error {
	id := binary.LittleEndian.AppendUint32(nil, uint32(tid))
	if _, err := b.memory.WriteAt(id, int64(th.TID)); err != nil {
		return fmt.Errorf("write thread's id: %w", err)
	}
	// Beside the data of the image's program, which has run.
	if _, err := b.memory.WriteAt(th.Steps, stepAddress); err != nil {
		return fmt.Errorf("write program: %w", err)
	}
	if err := b.proceed(tid, stepAddress); err != nil {
		return err
	}
	if _, err := b.await(tid); err != nil {
		return err
	}
	if err := b.ended(tid); err != nil {
		return err
	}
	if err := setXState(tid, th.Extended); err != nil {
		return err
	}
	return setSigmask(tid, th.Blocked)
}

// String describes a frozen process.
func (i *Image) String() string {
	return fmt.Sprintf("%d threads, %d steps, files %s", len(i.Threads), len(i.Steps)/stepSize, strings.Join(i.Slots, ", "))
}
