package template

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// dirWarm is the directory of a template that has the VMM.
const dirWarm = "vmm"

// warmRoom is what a VMM is taken to need before one was kept.
const warmRoom = 80 << 20

// warmed is a machine that was saved once more.
type warmed struct{ memory, state *os.File }

func (w *warmed) close() {
	_ = w.memory.Close()
	_ = w.state.Close()
}

// warm saves a machine once more, with its VMM below dir.
func (t *Template) warm(ctx context.Context, r Recipe, memory, state *os.File, dir string) (*warmed, error) {
	own, err := newMemory(r.MemorySize)
	if err != nil {
		return nil, err
	}
	saved, err := newMemory(0)
	if err != nil {
		_ = own.Close()
		return nil, err
	}
	w := &warmed{memory: own, state: saved}
	dir = filepath.Join(dir, dirWarm)
	err = os.Mkdir(dir, 0o700)
	if err == nil {
		_, err = copyUsed(own, memory, r.MemorySize)
	}
	if err == nil {
		err = r.Warm(ctx, own, state, saved, dir)
	}
	if err != nil {
		w.close()
		_ = os.RemoveAll(dir)
		return nil, err
	}
	t.Warm, t.WarmUsed = r.Kind, used(dir)
	return w, nil
}

// used is what the files of a directory take.
func used(dir string) int64 {
	var sum int64
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(dir, e.Name()), &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}

// VMM returns the directory with a VMM of this kind; errdefs.ErrNotFound when
// there is none.
func (t *Template) VMM(kind string) (string, error) {
	if t.NotWarm != "" {
		return "", fmt.Errorf("the VMM of template %s could not be kept, %s: %w", t.Key, t.NotWarm, errdefs.ErrNotFound)
	}
	if t.Warm == "" || t.Warm != kind {
		return "", fmt.Errorf("template %s has no VMM of this kind: %w", t.Key, errdefs.ErrNotFound)
	}
	dir := filepath.Join(t.dir, dirWarm)
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("template %s has no VMM any more: %w", t.Key, errdefs.ErrNotFound)
	}
	return dir, nil
}

// fileFailures, beside a VMM, has one byte for each time that it was of no use
// since it last was.
const fileFailures = "failures"

// maxFailures is how often in a row a VMM may be of no use before it goes. Once
// may be somebody else's doing, who has ended the process.
const maxFailures = 3

// NoteVMM remembers whether the VMM was of use, and removes it when it never is.
// Of two that do so at the same time one may be lost.
func (t *Template) NoteVMM(used bool) error {
	path := filepath.Join(t.dir, dirWarm, fileFailures)
	if used {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("note use of the VMM of template %s: %w", t.Key, err)
		}
		return nil
	}
	before, err := os.ReadFile(path)
	if err == nil && len(before)+1 >= maxFailures {
		return t.DropVMM()
	}
	if err := os.WriteFile(path, append(before, 'x'), 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note failure of the VMM of template %s: %w", t.Key, err)
	}
	return nil
}

// DropVMM removes the VMM, which was of no use; the template stays.
func (t *Template) DropVMM() error {
	if err := os.RemoveAll(filepath.Join(t.dir, dirWarm)); err != nil {
		return fmt.Errorf("remove VMM of template %s: %w", t.Key, err)
	}
	return nil
}

// Memory opens the memory for reading.
func (t *Template) Memory() (*os.File, error) {
	f, err := os.Open(filepath.Join(t.dir, fileMemory))
	if err != nil {
		return nil, fmt.Errorf("open memory of template: %w", err)
	}
	return f, nil
}
