package qemu

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBootAreas(t *testing.T) {
	const maps = `7fbd00000000-7fbd00400000 r--p 00000000 fe:00 9977867                    /x/initrd
7fbd10000000-7fbd10001000 rw-p 00000000 00:00 0
7fbd20000000-7fbd22000000 rw-p 00000000 fe:00 42                         /x/vm linux (deleted)
7fbd30000000-7fbd30001000 rw-s 00000000 00:01 62                         /memfd:mem (deleted)
7fbd40000000-7fbd40001000 rw-p 00000000 00:00 0                          [heap]
`
	got, err := bootAreas(strings.NewReader(maps), []uint64{42, 9977867})
	if err != nil {
		t.Fatal(err)
	}
	want := []area{{0x7fbd00000000, 0x7fbd00400000}, {0x7fbd20000000, 0x7fbd22000000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(area{})); diff != "" {
		t.Error(diff)
	}
	if _, err := bootAreas(strings.NewReader("zz-1 r--p 0 fe:00 42 /x\n"), []uint64{42}); err == nil {
		t.Error("no error for an address that is none")
	}
}

func TestTrimMemory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	spec := tinyMachine(t, "", hang)
	// The initramfs is mapped whole.
	if err := os.WriteFile(spec.Initrd, bytes.Repeat([]byte("initramfs"), 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	m := start(t, Config{}, spec)
	if err := m.TrimMemory(); err != nil {
		t.Fatal(err)
	}
	if err := m.QMP().Execute(deadline(t), "query-status", nil, nil); err != nil {
		t.Errorf("after the trim: %v", err)
	}
	m.Kill()
	if err := m.TrimMemory(); err == nil {
		t.Error("no error when QEMU is gone")
	}
}

func FuzzBootAreas(f *testing.F) {
	f.Add("7fbd00000000-7fbd00400000 r--p 0 fe:00 42 /x\n")
	f.Fuzz(func(t *testing.T, maps string) {
		areas, err := bootAreas(strings.NewReader(maps), []uint64{42})
		if err != nil {
			return
		}
		if len(areas) > strings.Count(maps, "42") {
			t.Errorf("%s from %q", fmt.Sprint(areas), maps)
		}
	})
}
