package freeze

import (
	"encoding/binary"
)

// Where the stub is while it makes a process. Nothing of a process that is
// linked to run anywhere is so low.
const (
	stubBase = 0x400000
	// codeBase has the code, dataBase the program and its data.
	codeBase = stubBase + 0x1000
	dataBase = stubBase + 0x10000
	dataSize = 0x200000
	stubEnd  = dataBase + dataSize
	// Of that, what is done before anything else, the program, and its data.
	maxFirst    = 0x8000
	stepAddress = dataBase + maxFirst
	maxSteps    = 0xf8000
	dataAddress = stepAddress + maxSteps
	maxData     = dataBase + dataSize - dataAddress
	// aside is where the kernel's own areas wait for their places.
	aside = 0x8000000
)

// Flags of a step.
const (
	// useFifth and useFirst have the kept result as the fifth or first argument.
	useFifth = 1
	keep     = 2
	useFirst = 4
)

// stepSize is that of a step in a program: number of the system call, six
// arguments, flags.
const stepSize = 8 * 8

// endOfProgram is in the place of a number.
const endOfProgram = ^uint64(0)

// program is a list of system calls for the stub, with what they point to.
type program struct {
	steps []byte
	// data begins at its address at.
	data []byte
	at   uint64
}

func newProgram(at uint64) *program { return &program{at: at} }

// call appends a system call.
func (p *program) call(number uintptr, args ...uint64) { p.step(0, number, args...) }

// step appends a system call with flags.
func (p *program) step(flags uint64, number uintptr, args ...uint64) {
	words := make([]uint64, 8)
	words[0], words[7] = uint64(number), flags
	copy(words[1:7], args)
	for _, w := range words {
		p.steps = binary.LittleEndian.AppendUint64(p.steps, w)
	}
}

// end appends the end of a program.
func (p *program) end() {
	p.steps = binary.LittleEndian.AppendUint64(p.steps, endOfProgram)
	p.steps = append(p.steps, make([]byte, stepSize-8)...)
}

// bytes puts data beside the program and returns its address.
func (p *program) bytes(b []byte) uint64 {
	for len(p.data)%8 != 0 {
		p.data = append(p.data, 0)
	}
	address := p.at + uint64(len(p.data))
	p.data = append(p.data, b...)
	return address
}

func (p *program) words(words ...uint64) uint64 {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return p.bytes(b)
}

func (p *program) text(s string) uint64 { return p.bytes(append([]byte(s), 0)) }

// stubCode runs the program at R12, one system call after the other, and traps
// at its end, or at a step that fails:
//
//	loop: mov rax, [r12]        end of the program?
//	      cmp rax, -1
//	      je end
//	      mov rdi, [r12+8]      arguments
//	      mov rsi, [r12+16]
//	      mov rdx, [r12+24]
//	      mov r10, [r12+32]
//	      mov r8, [r12+40]
//	      mov r9, [r12+48]
//	      test byte [r12+56], 1
//	      je 1f
//	      mov r8, r13
//	1:    test byte [r12+56], 4
//	      je 2f
//	      mov rdi, r13
//	2:    syscall
//	      cmp rax, -4095        an error?
//	      jae end
//	      test byte [r12+56], 2
//	      je 3f
//	      mov r13, rax
//	3:    add r12, 64
//	      jmp loop
//	end:  int3
var stubCode = []byte{
	0x49, 0x8b, 0x04, 0x24, 0x48, 0x83, 0xf8, 0xff, 0x74, 0x4f,
	0x49, 0x8b, 0x7c, 0x24, 0x08, 0x49, 0x8b, 0x74, 0x24, 0x10, 0x49, 0x8b, 0x54, 0x24, 0x18,
	0x4d, 0x8b, 0x54, 0x24, 0x20, 0x4d, 0x8b, 0x44, 0x24, 0x28, 0x4d, 0x8b, 0x4c, 0x24, 0x30,
	0x41, 0xf6, 0x44, 0x24, 0x38, 0x01, 0x74, 0x03, 0x4d, 0x89, 0xe8,
	0x41, 0xf6, 0x44, 0x24, 0x38, 0x04, 0x74, 0x03, 0x4c, 0x89, 0xef,
	0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x11,
	0x41, 0xf6, 0x44, 0x24, 0x38, 0x02, 0x74, 0x03, 0x49, 0x89, 0xc5,
	0x49, 0x83, 0xc4, 0x40, 0xeb, 0xa7, 0xcc,
}

// stubProgram is an executable file with the stub and room for a program.
func stubProgram() []byte {
	const headers = 64 + 2*56
	file := make([]byte, codeBase-stubBase, codeBase-stubBase+len(stubCode))
	copy(file, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(file[16:], 2)  // an executable file
	le.PutUint16(file[18:], 62) // of x86-64
	le.PutUint32(file[20:], 1)
	le.PutUint64(file[24:], codeBase)
	le.PutUint64(file[32:], 64)
	le.PutUint16(file[52:], 64)
	le.PutUint16(file[54:], 56)
	le.PutUint16(file[56:], 2)
	segment := func(at, flags int, offset, address, inFile, size uint64) {
		h := file[at:headers]
		le.PutUint32(h, 1)
		le.PutUint32(h[4:], uint32(flags))
		for i, v := range []uint64{offset, address, address, inFile, size, 4096} {
			le.PutUint64(h[8+8*i:], v)
		}
	}
	segment(64, 5, codeBase-stubBase, codeBase, uint64(len(stubCode)), uint64(len(stubCode)))
	file = append(file, stubCode...)
	segment(64+56, 6, 0, dataBase, 0, dataSize)
	return file
}
