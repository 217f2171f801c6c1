package guestimage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// memoryOf loads an ELF file as a VMM does: the bytes at physical addresses.
func memoryOf(t *testing.T, kernel []byte) map[uint64][]byte {
	t.Helper()
	file, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		t.Fatal(err)
	}
	pages := map[uint64][]byte{}
	for _, p := range file.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		data := make([]byte, p.Memsz)
		if _, err := p.ReadAt(data[:p.Filesz], 0); err != nil && p.Filesz > 0 {
			t.Fatal(err)
		}
		for i, b := range data {
			addr := p.Paddr + uint64(i)
			page := pages[addr>>12]
			if page == nil {
				page = make([]byte, 4096)
				pages[addr>>12] = page
			}
			page[addr&4095] = b
		}
	}
	return pages
}

func sameMemory(t *testing.T, a, b []byte) {
	t.Helper()
	x, y := memoryOf(t, a), memoryOf(t, b)
	if len(x) != len(y) {
		t.Fatalf("memory of %d pages, want %d", len(y), len(x))
	}
	for n, page := range x {
		if !bytes.Equal(page, y[n]) {
			t.Fatalf("page %#x differs", n)
		}
	}
}

// elfKernel is an ELF file with a note and these loaded bytes.
func elfKernel(t *testing.T, data []byte, memory uint64) []byte {
	t.Helper()
	kernel, err := writeELF(0x1000000, []segment{
		{data: []byte("a note of 20 bytes.."), Prog64: elf.Prog64{Type: uint32(elf.PT_NOTE), Align: 4, Memsz: 20}},
		{data: data, Prog64: elf.Prog64{Type: uint32(elf.PT_LOAD), Vaddr: 0xffffffff81000000, Paddr: 0x1000000, Memsz: memory}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return kernel
}

func TestSlimKernel(t *testing.T) {
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rand.IntN(255) + 1)
	}
	zeros := make([]byte, 3*zeroRun)
	tests := map[string]struct {
		data   []byte
		memory uint64
		less   int
	}{
		"no zeros":          {noise, 100_000, 0},
		"zeros inside":      {bytes.Join([][]byte{noise, noise}, zeros), 200_000 + 3*zeroRun, 3 * zeroRun},
		"zeros at the ends": {bytes.Join([][]byte{zeros, noise, zeros}, nil), 100_000 + 6*zeroRun + 12345, 6 * zeroRun},
		"short run":         {bytes.Join([][]byte{noise, noise}, zeros[:zeroRun-1]), 300_000, 0},
		"all zeros":         {zeros, 4 * zeroRun, 3 * zeroRun},
		"bss only":          {nil, 8192, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			kernel := elfKernel(t, tt.data, tt.memory)
			slim, err := SlimKernel(kernel)
			if err != nil {
				t.Fatal(err)
			}
			sameMemory(t, kernel, slim)
			if saved := len(kernel) - len(slim); saved < tt.less-1024 {
				t.Errorf("%d bytes saved, want about %d", saved, tt.less)
			}
			file, err := elf.NewFile(bytes.NewReader(slim))
			if err != nil {
				t.Fatal(err)
			}
			if file.Entry != 0x1000000 {
				t.Errorf("entry = %#x", file.Entry)
			}
			note := make([]byte, 20)
			if _, err := file.Progs[0].ReadAt(note, 0); err != nil || string(note) != "a note of 20 bytes.." {
				t.Errorf("note = %q, %v", note, err)
			}
		})
	}
}

func FuzzSlimKernel(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = SlimKernel(data) })
}

func TestStripSignature(t *testing.T) {
	signed := append([]byte("module"), "SIGNATURE"...)
	signed = append(signed, make([]byte, 8)...)
	signed = binary.BigEndian.AppendUint32(signed, 9)
	signed = append(signed, signatureMagic...)
	tests := map[string]struct{ in, want string }{
		"signed":           {string(signed), "module"},
		"not signed":       {"module", "module"},
		"magic only":       {signatureMagic, signatureMagic},
		"length too large": {"\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff" + signatureMagic, "\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff" + signatureMagic},
	}
	for name, tt := range tests {
		if got := string(stripSignature([]byte(tt.in))); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestStripModule takes every section that stays byte by byte from a real
// module of the kernel that guests boot.
func TestStripModule(t *testing.T) {
	found, err := filepath.Glob("../../_build/kernel/*/lib/modules/*/kernel/fs/overlayfs/overlay.ko")
	if err != nil || len(found) == 0 {
		t.Fatalf("no kernel module to strip; 'make guest' fetches the kernel: %v", err)
	}
	module, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	stripped := stripModule(module)
	if len(stripped) >= len(module) {
		t.Fatalf("%d bytes, not less than %d", len(stripped), len(module))
	}
	before, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		t.Fatal(err)
	}
	after, err := elf.NewFile(bytes.NewReader(stripped))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range before.Sections {
		if s.Name == ".BTF" {
			continue
		}
		got := after.Sections[i]
		if got.Name != s.Name || got.Size != s.Size || s.Addralign > 1 && got.Offset%min(s.Addralign, cutAlign) != s.Offset%min(s.Addralign, cutAlign) {
			t.Errorf("section %s became %s, %d bytes at %d", s.Name, got.Name, got.Size, got.Offset)
		}
		if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL {
			continue
		}
		want, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		if have, err := got.Data(); err != nil || !bytes.Equal(have, want) {
			t.Errorf("section %s changed: %v", s.Name, err)
		}
	}
	if after.Section(".BTF") != nil {
		t.Error("type information is still there")
	}
}

func FuzzStripModule(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(_ *testing.T, data []byte) { _ = stripModule(data) })
}
