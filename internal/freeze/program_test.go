package freeze

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStubProgram has the file be one that a kernel would run.
func TestStubProgram(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(stubProgram()))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_EXEC || f.Machine != elf.EM_X86_64 || f.Entry != codeBase || len(f.Progs) != 2 {
		t.Fatalf("got %+v", f)
	}
	code, data := f.Progs[0], f.Progs[1]
	if code.Vaddr != codeBase || code.Flags != elf.PF_R|elf.PF_X || code.Filesz != uint64(len(stubCode)) {
		t.Errorf("code %+v", code.ProgHeader)
	}
	if data.Vaddr != dataBase || data.Flags != elf.PF_R|elf.PF_W || data.Memsz != dataSize || data.Filesz != 0 {
		t.Errorf("data %+v", data.ProgHeader)
	}
	if got := stubCode[len(stubCode)-1]; got != 0xcc {
		t.Errorf("the code ends with %#x, no trap", got)
	}
	if dataAddress+maxData != stubEnd || stepAddress+maxSteps != dataAddress {
		t.Error("the parts of the data do not fill it")
	}
}

func TestProgram(t *testing.T) {
	p := newProgram(0x1000)
	at := p.text("abc")
	second := p.words(7)
	p.step(keep, 257, 1, 2)
	p.end()
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(p.steps[8*i:]) }
	if at != 0x1000 || second != 0x1008 || len(p.data) != 16 {
		t.Errorf("data at %#x and %#x, %d bytes", at, second, len(p.data))
	}
	if len(p.steps) != 2*stepSize || word(0) != 257 || word(1) != 1 || word(2) != 2 || word(3) != 0 || word(7) != keep || word(8) != endOfProgram {
		t.Errorf("steps % x", p.steps)
	}
}

func TestSharedSteps(t *testing.T) {
	p := newProgram(0)
	p.call(unix.SYS_GETPID)
	at := len(p.steps)
	p.call(unix.SYS_MMAP, 1, 2, 3, newPlace, 5, 6)
	i := &Image{Steps: p.steps, Shared: []sharedStep{{"memory", at}}}
	flags := func(steps []byte) uint64 { return binary.LittleEndian.Uint64(steps[at+flagsOffset:]) }
	if got := flags(i.steps([]string{"memory"})); got != newPlace&^unix.MAP_PRIVATE|unix.MAP_SHARED {
		t.Errorf("shared: flags %#x", got)
	}
	if got := flags(i.steps(nil)); got != newPlace {
		t.Errorf("private: flags %#x", got)
	}
	if got := flags(i.Steps); got != newPlace {
		t.Errorf("the image was changed: flags %#x", got)
	}
}
