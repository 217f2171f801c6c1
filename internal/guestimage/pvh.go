package guestimage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// notePVHEntry is the type of the note that holds the 32-bit entry point for
// direct boot, XEN_ELFNOTE_PHYS32_ENTRY.
const notePVHEntry = 18

// maxNotes bounds the notes of a kernel; real ones have some hundred bytes.
const maxNotes = 1 << 20

// checkPVH says why a VMM cannot boot an ELF kernel directly, if so.
func checkPVH(kernel []byte) error {
	file, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return fmt.Errorf("read the kernel's ELF header: %w", err)
	}
	if file.Class != elf.ELFCLASS64 || file.Machine != elf.EM_X86_64 {
		return fmt.Errorf("the kernel is for %v, %v: want one for x86-64", file.Machine, file.Class)
	}
	for _, p := range file.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		if p.Filesz > maxNotes {
			return fmt.Errorf("the kernel has %d bytes of ELF notes: want no more than %d", p.Filesz, maxNotes)
		}
		notes := make([]byte, p.Filesz)
		if _, err := p.ReadAt(notes, 0); err != nil {
			return fmt.Errorf("read the kernel's ELF notes: %w", err)
		}
		if hasNote(notes, "Xen", notePVHEntry) {
			return nil
		}
	}
	return errors.New("the kernel has no PVH entry point, which direct boot needs: take one that was built with CONFIG_PVH=y")
}

// hasNote looks for a note in the content of a note segment. Notes that are
// cut short end the search.
func hasNote(notes []byte, name string, kind uint32) bool {
	const header = 12
	for len(notes) >= header {
		le := binary.LittleEndian
		nameSize, descSize := uint64(le.Uint32(notes)), uint64(le.Uint32(notes[4:]))
		found := le.Uint32(notes[8:]) == kind
		desc := header + align4(nameSize)
		next := desc + align4(descSize)
		if desc+descSize > uint64(len(notes)) {
			return false
		}
		if found && string(bytes.TrimRight(notes[header:header+nameSize], "\x00")) == name {
			return true
		}
		notes = notes[min(next, uint64(len(notes))):]
	}
	return false
}

func align4(n uint64) uint64 { return (n + 3) &^ 3 }
