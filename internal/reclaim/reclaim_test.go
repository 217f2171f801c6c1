package reclaim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestFileAreas(t *testing.T) {
	const maps = `7fbd00000000-7fbd00400000 r--p 00000000 fe:00 9977867                    /x/initrd
7fbd10000000-7fbd10001000 rw-p 00000000 00:00 0
7fbd20000000-7fbd22000000 rw-p 00000000 fe:00 42                         /x/vm linux (deleted)
7fbd30000000-7fbd30001000 rw-s 00000000 00:01 62                         /memfd:mem (deleted)
7fbd40000000-7fbd40001000 rw-p 00000000 00:00 0                          [heap]
`
	got, err := fileAreas(strings.NewReader(maps))
	if err != nil {
		t.Fatal(err)
	}
	want := []area{{0x7fbd00000000, 0x7fbd00400000}, {0x7fbd20000000, 0x7fbd22000000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(area{})); diff != "" {
		t.Error(diff)
	}
	if _, err := fileAreas(strings.NewReader("zz-1 r--p 0 fe:00 42 /x\n")); err == nil {
		t.Error("no error for an address that is none")
	}
}

// resident counts the pages of a mapping that are in memory.
func resident(t *testing.T, mapping []byte) int {
	t.Helper()
	pages := make([]byte, (len(mapping)+4095)/4096)
	if err := mincore(mapping, pages); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range pages {
		n += int(p & 1)
	}
	return n
}

func TestFilePages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Dirty pages cannot be reclaimed before they are written.
	unix.Sync()
	mapping, err := unix.Mmap(int(f.Fd()), 0, 4<<20, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mapping) })
	before := resident(t, mapping)
	if err := FilePages(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if after := resident(t, mapping); after >= before/2 {
		t.Errorf("%d of %d pages are still in memory", after, before)
	}
	if mapping[1<<20] != 0 {
		t.Error("what was read again is not what the file holds")
	}
}

func TestFilePagesOfNobody(t *testing.T) {
	if err := FilePages(1 << 30); err == nil {
		t.Error("no error for a process that is none")
	}
}

func FuzzFileAreas(f *testing.F) {
	f.Add("7fbd00000000-7fbd00400000 r--p 0 fe:00 42 /x\n")
	f.Fuzz(func(t *testing.T, maps string) {
		areas, err := fileAreas(strings.NewReader(maps))
		if err == nil && len(areas) > strings.Count(maps, "p") {
			t.Errorf("%v from %q", areas, maps)
		}
	})
}

func mincore(mapping, pages []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mapping[0])), uintptr(len(mapping)), uintptr(unsafe.Pointer(&pages[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
