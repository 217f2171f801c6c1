package network

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The little of BPF that is needed here, by hand: the library for it brings a
// parser of Go along, which has no business in a process that stays.

// instruction is one of a program, as the kernel reads it.
type instruction struct {
	code      uint8
	registers uint8
	offset    int16
	immediate int32
}

// Registers: the context comes in r1, results in r0; r6 and up survive calls.
const (
	r0 = iota
	r1
	r2
	r3
	r6 = 6
	r7 = 7
	fp = 10
)

func regs(dst, src uint8) uint8 { return dst | src<<4 }

func move(dst, src uint8) instruction {
	return instruction{code: unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X, registers: regs(dst, src)}
}

func set(dst uint8, value int32) instruction {
	return instruction{code: unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K, registers: dst, immediate: value}
}

func add(dst uint8, value int32) instruction {
	return instruction{code: unix.BPF_ALU64 | unix.BPF_ADD | unix.BPF_K, registers: dst, immediate: value}
}

// load reads the 32 bits at an address, and store writes them.
func load(dst, address uint8, offset int16) instruction {
	return instruction{code: unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W, registers: regs(dst, address), offset: offset}
}

func store(address uint8, offset int16, src uint8) instruction {
	return instruction{code: unix.BPF_STX | unix.BPF_MEM | unix.BPF_W, registers: regs(address, src), offset: offset}
}

// jump goes to the instruction that is as far behind the next one; unless
// compares 32 bits first, and same 64.
func jump(offset int16) instruction {
	return instruction{code: unix.BPF_JMP | unix.BPF_JA, offset: offset}
}

func unless(register uint8, value int32, offset int16) instruction {
	return instruction{code: unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_K, registers: register, offset: offset, immediate: value}
}

func null(register uint8, offset int16) instruction {
	return instruction{code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, registers: register, offset: offset}
}

func call(function int32) instruction {
	return instruction{code: unix.BPF_JMP | unix.BPF_CALL, immediate: function}
}

func exit() instruction { return instruction{code: unix.BPF_JMP | unix.BPF_EXIT} }

// mapAddress loads a map, by two instructions.
func mapAddress(dst uint8, fd int) []instruction {
	return []instruction{
		{code: unix.BPF_LD | unix.BPF_DW | unix.BPF_IMM, registers: regs(dst, unix.BPF_PSEUDO_MAP_FD), immediate: int32(fd)}, {},
	}
}

// Functions of the kernel.
const (
	mapLookup = 1
	skRelease = 86
	skAssign  = 124
)

// bpf is the system call. attr is a pointer to what the command takes.
func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// newSocketMap makes a map of sockets by small numbers.
func newSocketMap(entries uint32) (*os.File, error) {
	attr := struct{ kind, keySize, valueSize, entries uint32 }{unix.BPF_MAP_TYPE_SOCKMAP, 4, 8, entries}
	fd, err := bpf(unix.BPF_MAP_CREATE, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return nil, fmt.Errorf("make map of sockets: %w", err)
	}
	return os.NewFile(uintptr(fd), "sockets"), nil
}

// putSocket puts a socket into a map.
func putSocket(sockets *os.File, key uint32, socket uintptr) error {
	value := uint64(socket)
	// The kernel is given their addresses as numbers.
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&key)
	pins.Pin(&value)
	attr := struct {
		fd         uint32
		_          uint32
		key, value uint64
		flags      uint64
	}{fd: uint32(sockets.Fd()), key: uint64(uintptr(unsafe.Pointer(&key))), value: uint64(uintptr(unsafe.Pointer(&value)))}
	_, err := bpf(unix.BPF_MAP_UPDATE_ELEM, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return fmt.Errorf("put socket into map: %w", err)
	}
	return nil
}

// loadLookup loads a program that selects sockets.
func loadLookup(program []instruction) (*os.File, error) {
	license := []byte("Apache-2.0\x00")
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&program[0])
	pins.Pin(&license[0])
	attr := struct {
		kind, count           uint32
		instructions, license uint64
		logLevel, logSize     uint32
		log                   uint64
		kernel, flags         uint32
		name                  [16]byte
		ifindex, attachType   uint32
	}{
		kind: unix.BPF_PROG_TYPE_SK_LOOKUP, count: uint32(len(program)),
		instructions: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
		attachType: unix.BPF_SK_LOOKUP,
	}
	copy(attr.name[:], "dougong")
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return nil, fmt.Errorf("load program: %w", err)
	}
	return os.NewFile(uintptr(fd), "program"), nil
}

// attachLookup has a program select sockets in a namespace as long as the file
// that it returns is open.
func attachLookup(program, namespace *os.File) (*os.File, error) {
	attr := struct{ program, target, kind, flags uint32 }{uint32(program.Fd()), uint32(namespace.Fd()), unix.BPF_SK_LOOKUP, 0}
	fd, err := bpf(unix.BPF_LINK_CREATE, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return nil, fmt.Errorf("attach program: %w", err)
	}
	return os.NewFile(uintptr(fd), "link"), nil
}
