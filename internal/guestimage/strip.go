package guestimage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
)

// signatureMagic ends a signed module; before it stands a header of 12 bytes
// that ends with the signature's length.
const (
	signatureMagic  = "~Module signature appended~\n"
	signatureHeader = 12
)

// stripModule takes away what loading a module in a guest has no use for: the
// signature, which a kernel that is not locked down does not ask for (and a
// changed module must not have a wrong one), and debugging and type
// information, which takes longer to parse than the module takes to load. A
// module of an unexpected form stays as it is.
func stripModule(module []byte) []byte {
	module = stripSignature(module)
	file, err := elf.NewFile(bytes.NewReader(module))
	if err != nil || file.Class != elf.ELFCLASS64 || file.ByteOrder != binary.LittleEndian || file.Type != elf.ET_REL {
		return module
	}
	stripped, ok := cutSections(module, useless(file))
	if !ok {
		return module
	}
	return stripped
}

func stripSignature(module []byte) []byte {
	body, ok := bytes.CutSuffix(module, []byte(signatureMagic))
	if !ok || len(body) < signatureHeader {
		return module
	}
	length := int(binary.BigEndian.Uint32(body[len(body)-4:]))
	end := len(body) - signatureHeader - length
	if length < 0 || end < 0 {
		return module
	}
	return body[:end]
}

// useless lists the indexes of the sections to cut.
func useless(file *elf.File) []int {
	var list []int
	for i, s := range file.Sections {
		name := strings.TrimPrefix(s.Name, ".rela")
		if s.Type != elf.SHT_NOBITS && (name == ".BTF" || strings.HasPrefix(name, ".debug_")) {
			list = append(list, i)
		}
	}
	return list
}

// Places in ELF's 64-bit headers.
const (
	ehShoff     = 0x28
	ehShentsize = 0x3a
	ehShnum     = 0x3c
	shName      = 0x00
	shOffset    = 0x18
	shSize      = 0x20
	sectionSize = 64
)

// cutAlign keeps what follows a cut as aligned as it was.
const cutAlign = 64

// cutSections empties the sections and takes their bytes out of the file. In
// a relocatable file only section headers refer to places in it.
func cutSections(module []byte, sections []int) ([]byte, bool) {
	le := binary.LittleEndian
	out := slices.Clone(module)
	table, count := le.Uint64(out[ehShoff:]), uint64(le.Uint16(out[ehShnum:]))
	if le.Uint16(out[ehShentsize:]) != sectionSize || table > uint64(len(out)) || table+count*sectionSize > uint64(len(out)) {
		return nil, false
	}
	header := func(i int) []byte { return out[table+uint64(i)*sectionSize:][:sectionSize] }
	type cut struct{ from, to uint64 }
	var cuts []cut
	for _, i := range sections {
		h := header(i)
		from, size := le.Uint64(h[shOffset:]), le.Uint64(h[shSize:])
		if from+size < from || from+size > uint64(len(out)) {
			return nil, false
		}
		le.PutUint64(h[shSize:], 0)
		// Without its name the loader does not look for it.
		le.PutUint32(h[shName:], 0)
		cuts = append(cuts, cut{from, from + size&^(cutAlign-1)})
	}
	slices.SortFunc(cuts, func(a, b cut) int { return int(int64(a.from) - int64(b.from)) })
	moved := func(offset uint64) uint64 {
		var gone uint64
		for _, c := range cuts {
			if c.to <= offset {
				gone += c.to - c.from
			}
		}
		return offset - gone
	}
	for i := range int(count) {
		h := header(i)
		le.PutUint64(h[shOffset:], moved(le.Uint64(h[shOffset:])))
	}
	le.PutUint64(out[ehShoff:], moved(table))
	for _, c := range slices.Backward(cuts) {
		out = slices.Delete(out, int(c.from), int(c.to))
	}
	return out, true
}
