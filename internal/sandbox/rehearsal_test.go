package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/erofs"
)

var update = flag.Bool("update", false, "write rehearsal.erofs and rehearsal.bin anew")

// trueProgram is an x86-64 program that writes "ok" and ends.
func trueProgram() []byte {
	const base, headers = 0x400000, 64 + 56
	code := []byte{
		0xb8, 1, 0, 0, 0, // mov $1,%eax (write)
		0x89, 0xc7, // mov %eax,%edi
		0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea 16(%rip),%rsi
		0xba, 3, 0, 0, 0, // mov $3,%edx
		0x0f, 0x05, // syscall
		0xb8, 60, 0, 0, 0, // mov $60,%eax (exit)
		0x31, 0xff, // xor %edi,%edi
		0x0f, 0x05, // syscall
		'o', 'k', '\n',
	}
	size := uint64(headers + len(code))
	var b bytes.Buffer
	b.Write([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for _, field := range []any{
		uint16(2), uint16(62), uint32(1), uint64(base + headers), uint64(64), uint64(0),
		uint32(0), uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(4096),
	} {
		_ = binary.Write(&b, binary.LittleEndian, field)
	}
	return append(b.Bytes(), code...)
}

// buildRehearsal makes the image: the directories that every image has, and one
// program.
func buildRehearsal(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := erofs.NewWriter(f)
	if err != nil {
		t.Fatal(err)
	}
	file := func(mode uint32, content []byte) erofs.Entry {
		d, err := w.Data(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		return erofs.Entry{Inode: &erofs.Inode{Mode: unix.S_IFREG | mode, Data: d}}
	}
	dir := func(entries map[string]erofs.Entry) erofs.Entry {
		return erofs.Entry{Inode: &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: entries}}
	}
	root := dir(map[string]erofs.Entry{
		"bin": dir(map[string]erofs.Entry{"true": file(0o755, trueProgram())}),
		"etc": dir(map[string]erofs.Entry{"passwd": file(0o644, []byte("root:x:0:0:root:/:/bin/true\n")), "group": file(0o644, []byte("root:x:0:\n"))}),
		"dev": dir(nil), "proc": dir(nil), "sys": dir(nil), "run": dir(nil), "tmp": dir(nil),
	})
	if _, err := w.Finish(root.Inode, [16]byte{1}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestRehearsalImage holds the embedded image and the code above together;
// with -update it writes the image anew.
func TestRehearsalImage(t *testing.T) {
	want := buildRehearsal(t)
	if *update {
		if err := errors.Join(os.WriteFile("rehearsal.erofs", want, 0o644), os.WriteFile("rehearsal.bin", trueProgram(), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(rehearsalProgram, trueProgram()) {
		t.Error("rehearsal.bin is not what this test builds; write it anew with -update")
	}
	if !bytes.Equal(rehearsalImage, want) {
		t.Error("rehearsal.erofs is not what this test builds; write it anew with -update")
	}
}
