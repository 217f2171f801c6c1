package guestimage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// zeroRun is the length from which zeros are left out of a kernel. Shorter
// runs cost more in program headers than they save.
const zeroRun = 64 << 10

// segment is a piece of a kernel that is loaded from the file, and the zeros
// that follow it in memory.
type segment struct {
	elf.Prog64
	data []byte
}

// SlimKernel returns an ELF kernel that loads to the same memory without
// carrying its long runs of zeros: the loader makes those by itself. The VMM
// keeps the file mapped, so what is not in it costs no memory either.
func SlimKernel(kernel []byte) ([]byte, error) {
	file, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return nil, fmt.Errorf("read the kernel: %w", err)
	}
	if file.Class != elf.ELFCLASS64 || file.ByteOrder != binary.LittleEndian {
		return nil, fmt.Errorf("the kernel is %v %v, not 64-bit little-endian", file.Class, file.ByteOrder)
	}
	var segments []segment
	for _, p := range file.Progs {
		if p.Type != elf.PT_LOAD && p.Type != elf.PT_NOTE {
			continue
		}
		if p.Off+p.Filesz < p.Off || p.Off+p.Filesz > uint64(len(kernel)) || p.Memsz < p.Filesz && p.Type == elf.PT_LOAD {
			return nil, fmt.Errorf("the kernel is damaged: segment at %#x of %d bytes", p.Off, p.Filesz)
		}
		s := segment{data: kernel[p.Off : p.Off+p.Filesz], Prog64: elf.Prog64{
			Type: uint32(p.Type), Flags: uint32(p.Flags), Vaddr: p.Vaddr, Paddr: p.Paddr, Memsz: p.Memsz, Align: p.Align,
		}}
		if p.Type == elf.PT_NOTE {
			segments = append(segments, s)
			continue
		}
		segments = append(segments, split(s)...)
	}
	return writeELF(file.Entry, segments)
}

// split cuts a segment at its long runs of zeros, which become the memory
// behind the piece before them.
func split(s segment) []segment {
	var pieces []segment
	for start := 0; start < len(s.data) || start == 0; {
		end, next := nextZeros(s.data, start)
		memory := uint64(next - start)
		if next == len(s.data) {
			memory = s.Memsz - uint64(start)
		}
		pieces = append(pieces, segment{data: s.data[start:end], Prog64: elf.Prog64{
			Type: s.Type, Flags: s.Flags, Vaddr: s.Vaddr + uint64(start), Paddr: s.Paddr + uint64(start), Memsz: memory, Align: 1,
		}})
		if next == start {
			break
		}
		start = next
	}
	return pieces
}

// nextZeros finds the next long run of zeros from start on: where it begins
// and where it ends. Without one, both are the end of data.
func nextZeros(data []byte, start int) (begin, end int) {
	for i := start; i < len(data); {
		if data[i] != 0 {
			i++
			continue
		}
		j := i
		for j < len(data) && data[j] == 0 {
			j++
		}
		if j-i >= zeroRun {
			return i, j
		}
		i = j
	}
	return len(data), len(data)
}

// writeELF writes an executable with these segments and no sections.
func writeELF(entry uint64, segments []segment) ([]byte, error) {
	const headerSize, programSize = 64, 56
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: entry, Phoff: headerSize, Ehsize: headerSize, Phentsize: programSize, Phnum: uint16(len(segments)),
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	if len(segments) >= 0xffff {
		return nil, fmt.Errorf("the kernel has too many runs of zeros: %d", len(segments))
	}
	var head, body bytes.Buffer
	offset := uint64(headerSize + programSize*len(segments))
	parts := []any{header}
	for _, s := range segments {
		// Notes are read in words of four bytes.
		for (offset+uint64(body.Len()))%16 != 0 {
			body.WriteByte(0)
		}
		s.Off, s.Filesz = offset+uint64(body.Len()), uint64(len(s.data))
		parts = append(parts, s.Prog64)
		body.Write(s.data)
	}
	for _, part := range parts {
		if err := binary.Write(&head, binary.LittleEndian, part); err != nil {
			return nil, fmt.Errorf("write ELF header: %w", err)
		}
	}
	return append(head.Bytes(), body.Bytes()...), nil
}
