package qemu

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dougong.dev/dougong/internal/vmm"
)

// The ends that a test's guest can come to, in 32-bit machine code.
var (
	// mov $0x604,%dx; mov $0x2000,%ax; out %ax,(%dx): ACPI's S5.
	powerOff = []byte{0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x20, 0x66, 0xef}
	// mov $0xcf9,%dx; mov $6,%al; out %al,(%dx): the chipset's reset.
	reset = []byte{0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee}
	// mov $0x505,%dx; mov $1,%al; out %al,(%dx): pvpanic.
	reportPanic = []byte{0x66, 0xba, 0x05, 0x05, 0xb0, 0x01, 0xee}
	hang        []byte
)

// Where a test's kernel is loaded, and where its code begins in it.
const (
	kernelBase = 0x100000
	codeOffset = 256
)

// tinyKernel is an ELF file with a PVH note that prints text on the serial
// port, does end, and halts.
func tinyKernel(text string, end []byte) []byte {
	var code bytes.Buffer
	// mov $text,%esi; mov $0x3f8,%dx; 1: lodsb; test %al,%al; jz 2f; out %al,(%dx); jmp 1b; 2:
	loop := []byte{0xbe, 0, 0, 0, 0, 0x66, 0xba, 0xf8, 0x03, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8}
	halt := []byte{0xfa, 0xf4, 0xeb, 0xfc} // 1: cli; hlt; jmp 1b
	at := kernelBase + codeOffset + len(loop) + len(end) + len(halt)
	binary.LittleEndian.PutUint32(loop[1:], uint32(at))
	for _, part := range [][]byte{loop, end, halt, []byte(text), {0}} {
		code.Write(part)
	}
	return elf(code.Bytes())
}

// elf wraps code into the smallest file that QEMU boots.
func elf(code []byte) []byte {
	const headers, note = 64, 64 + 2*56
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	size := uint64(codeOffset + len(code))
	put([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	put(struct {
		Type, Machine                          uint16
		Version                                uint32
		Entry, Phoff, Shoff                    uint64
		Flags                                  uint32
		Ehsize, Phentsize, Phnum, Sh, Shn, Shs uint16
	}{2, 62, 1, kernelBase + codeOffset, headers, 0, 0, 64, 56, 2, 64, 0, 0})
	type program struct {
		Type, Flags                                uint32
		Offset, Vaddr, Paddr, Filesz, Memsz, Align uint64
	}
	put(program{1, 7, 0, kernelBase, kernelBase, size, size, 4096})
	put(program{4, 4, note, kernelBase + note, kernelBase + note, 24, 24, 4})
	put([]uint32{4, 8, 18})
	put([]byte("Xen\x00"))
	put(uint64(kernelBase + codeOffset))
	b.Write(make([]byte, codeOffset-b.Len()))
	b.Write(code)
	return b.Bytes()
}

// tinyMachine is a machine with a tinyKernel, as nobody would want it but a
// test: QEMU starts and the guest ends in a fraction of a second.
func tinyMachine(t *testing.T, text string, end []byte) vmm.MachineSpec {
	t.Helper()
	if _, err := exec.LookPath(binaryName); err != nil {
		t.Skip("QEMU is not installed")
	}
	dir := t.TempDir()
	spec := vmm.MachineSpec{
		Name: "test", Accelerator: vmm.TCG, CPUs: 1, MemoryMiB: 64,
		Kernel: filepath.Join(dir, "kernel"), Initrd: filepath.Join(dir, "initrd"),
	}
	for path, content := range map[string][]byte{spec.Kernel: tinyKernel(text, end), spec.Initrd: []byte("none")} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return spec
}

// start starts a machine that is killed when the test ends.
func start(t *testing.T, c Config, spec vmm.MachineSpec) *Machine {
	t.Helper()
	m, err := Start(deadline(t), c, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	return m
}

// wait waits until a machine has ended.
func wait(t *testing.T, m *Machine) error {
	t.Helper()
	select {
	case <-m.Done():
	case <-deadline(t).Done():
		t.Fatalf("the machine did not end; its console:\n%s", m.Console())
	}
	return m.Err()
}

// deadline bounds what a broken machine would wait for.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// checkLeaks asserts that f leaves neither an open file nor a process.
func checkLeaks(t *testing.T, f func()) {
	t.Helper()
	before := openFiles(t)
	f()
	if after := openFiles(t); len(after) > len(before) {
		t.Errorf("open files before: %q\nafter: %q", before, after)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("processes left: %q", left)
	}
}

func openFiles(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		// The directory itself is open while it is read, and gone after.
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			files = append(files, e.Name()+" "+target)
		}
	}
	return files
}

func children(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err == nil {
			pids = append(pids, strings.Fields(string(b))...)
		}
	}
	return pids
}
