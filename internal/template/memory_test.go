package template

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// readAs reads the file name in the inherited directory as nobody would that
// runs under another user id.
func readAs(dir *os.File, name string) (string, error) {
	cmd := exec.Command("head", "-c", fmt.Sprint(page+6), "/proc/self/fd/3/"+name)
	cmd.ExtraFiles = []*os.File{dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	return string(bytes.TrimLeft(out, "\x00")), err
}

// TestLend opens the memory as the VMM does, before it is taken back and after.
func TestLend(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has other user ids")
	}
	s := open(t)
	made := create(t, s, recipe(Key("x"), "memory"))
	dir, name, take, err := made.Lend()
	if err != nil {
		t.Fatal(err)
	}
	// The VMM keeps its own descriptor when ours is closed.
	fd, err := unix.Dup(int(dir.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	kept := os.NewFile(uintptr(fd), "kept")
	defer kept.Close()
	if got, err := readAs(kept, name); err != nil || got != "memory" {
		t.Errorf("lent memory reads as %q, %v", got, err)
	}
	if got, err := readAs(kept, "../"+Key("x")+"/"+fileMemory); err == nil {
		t.Errorf("the store can be reached from the lent directory: %q", got)
	}
	take()
	if got, err := readAs(kept, name); err == nil {
		t.Errorf("memory that was taken back reads as %q", got)
	}
	if _, err := os.Open(fmt.Sprintf("/proc/self/fd/%d/%s", fd, name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("root opens it: %v", err)
	}
	if left := names(t, s); len(left) != 1 {
		t.Errorf("left: %q", left)
	}
	if _, err := os.Stat(filepath.Join(made.dir, fileMemory)); err != nil {
		t.Error(err)
	}
}

func TestLendOfARemovedTemplate(t *testing.T) {
	s := open(t)
	made := create(t, s, recipe(Key("x"), "memory"))
	if err := s.Remove(made.Key); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := made.Lend(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lend gives %v", err)
	}
	if _, _, err := made.Copy(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Copy gives %v", err)
	}
	if left := names(t, s); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// copyOf is a copy of a template's memory.
func copyOf(t *testing.T, made *Template) *os.File {
	t.Helper()
	memory, fill, err := made.Copy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = memory.Close() })
	if info, err := memory.Stat(); err != nil || info.Size() != made.MemorySize {
		t.Errorf("memory of %v bytes, want %d from the beginning: %v", info.Size(), made.MemorySize, err)
	}
	if err := fill(); err != nil {
		t.Fatal(err)
	}
	return memory
}

// TestCopy gives each clone memory of its own.
func TestCopy(t *testing.T) {
	made := create(t, open(t), recipe(Key("x"), "memory"))
	first := copyOf(t, made)
	original, err := os.ReadFile(filepath.Join(made.dir, fileMemory))
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, first); !bytes.Equal(got, original) {
		t.Error("the copy is not like the original")
	}
	if _, err := first.WriteAt([]byte("changed"), page); err != nil {
		t.Fatal(err)
	}
	second := copyOf(t, made)
	if got := content(t, second); !bytes.Equal(got, original) {
		t.Error("one copy changed the other")
	}
}

func content(t *testing.T, f *os.File) []byte {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCopyUsed copies random patterns of holes, zeros and data, and looks that
// the result is the same and no page of zeros is stored.
func TestCopyUsed(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		pages := random.IntN(600)
		from, used := pattern(t, random, pages)
		to := sparse(t, 0)
		size := int64(pages * page)
		copied, err := copyUsed(to, from, size)
		if err != nil {
			t.Fatal(err)
		}
		if copied != used {
			t.Errorf("round %d: %d bytes copied of %d pages, want %d", round, copied, pages, used)
		}
		if pages > 0 && !bytes.Equal(content(t, to), content(t, from)) {
			t.Errorf("round %d: the copy of %d pages differs", round, pages)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(to.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		if st.Size != size || st.Blocks*512 != used {
			t.Errorf("round %d: %d bytes stored and a size of %d, want %d and %d", round, st.Blocks*512, st.Size, used, size)
		}
	}
}

// pattern makes a file whose runs of pages are holes, zeros or data, and says
// how many bytes are data.
func pattern(t *testing.T, random *rand.Rand, pages int) (*os.File, int64) {
	t.Helper()
	f, used := sparse(t, int64(pages*page)), int64(0)
	for i := 0; i < pages; {
		run := min(1+random.IntN(300), pages-i)
		b := make([]byte, run*page)
		kind := random.IntN(3)
		if kind == 2 {
			// One byte in each page is enough to make it data.
			for j := range run {
				b[j*page+random.IntN(page)] = 1
			}
			used += int64(len(b))
		}
		if kind > 0 {
			if _, err := f.WriteAt(b, int64(i*page)); err != nil {
				t.Fatal(err)
			}
		}
		i += run
	}
	return f, used
}

func sparse(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := newMemory(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestCopyUsedOfAnOddSize ends in the middle of a page.
func TestCopyUsedOfAnOddSize(t *testing.T) {
	const size = 3*page + 5
	from, to := sparse(t, size), sparse(t, 0)
	if _, err := from.WriteAt([]byte("end"), size-3); err != nil {
		t.Fatal(err)
	}
	if used, err := copyUsed(to, from, size); err != nil || used != 5 {
		t.Errorf("%d bytes copied, %v", used, err)
	}
	if !bytes.Equal(content(t, to), content(t, from)) {
		t.Error("the copy differs")
	}
}
