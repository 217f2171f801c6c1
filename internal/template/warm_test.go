package template

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// warmRecipe is one whose machine writes to its memory when it goes on, and
// whose VMM is one file.
func warmRecipe(key string, fail error) Recipe {
	r := recipe(key, "booted")
	r.Kind = "kind"
	r.Warm = func(_ context.Context, memory, from, state *os.File, dir string) error {
		before := make([]byte, 6)
		_, err := memory.ReadAt(before, page)
		_, fromErr := from.Seek(0, io.SeekStart)
		saved, readErr := io.ReadAll(from)
		if string(before) != "booted" || string(saved) != "state of booted" {
			return errors.New("the machine goes on from something else")
		}
		_, writeErr := memory.WriteAt([]byte("warmed"), page)
		_, stateErr := state.WriteString("state of warmed")
		return errors.Join(err, fromErr, readErr, writeErr, stateErr, os.WriteFile(filepath.Join(dir, "process"), make([]byte, 2*page), 0o600), fail)
	}
	return r
}

func contents(t *testing.T, made *Template) (memory, state string) {
	t.Helper()
	f, err := made.Memory()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 6)
	if _, err := f.ReadAt(data, page); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err == nil {
		t.Error("the memory can be written to")
	}
	s, err := made.State()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	saved, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(data), string(saved)
}

func TestWarm(t *testing.T) {
	s := open(t)
	made := create(t, s, warmRecipe("00000000000000aa", nil))
	if memory, state := contents(t, made); memory != "warmed" || state != "state of warmed" {
		t.Errorf("memory %q, state %q: not those that belong to the VMM", memory, state)
	}
	dir, err := made.VMM("kind")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "process")); err != nil || made.WarmUsed < 2*page {
		t.Errorf("VMM of %d bytes: %v", made.WarmUsed, err)
	}
	if _, err := made.VMM("other"); !errdefs.IsNotFound(err) {
		t.Errorf("a VMM of another kind: %v", err)
	}
	if err := made.DropVMM(); err != nil {
		t.Fatal(err)
	}
	again, err := s.Get(made.Key)
	if err != nil {
		t.Fatalf("the template has gone with its VMM: %v", err)
	}
	if _, err := again.VMM("kind"); !errdefs.IsNotFound(err) {
		t.Errorf("dropped: %v", err)
	}
}

// TestWarmFails has a template that is as it would be without.
func TestWarmFails(t *testing.T) {
	s := open(t)
	made := create(t, s, warmRecipe("00000000000000bb", errors.New("no such luck")))
	if memory, state := contents(t, made); memory != "booted" || state != "state of booted" {
		t.Errorf("memory %q, state %q", memory, state)
	}
	if _, err := made.VMM("kind"); !errdefs.IsNotFound(err) || made.WarmUsed != 0 || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("%d bytes, %v", made.WarmUsed, err)
	}
	if left, err := os.ReadDir(made.dir); err != nil || len(left) != 3 {
		t.Errorf("files %v, %v", left, err)
	}
}

// TestFailures has a VMM stay that fails now and then, and one go that always
// does.
func TestFailures(t *testing.T) {
	s := open(t)
	made := create(t, s, warmRecipe("00000000000000dd", nil))
	note := func(used bool) {
		t.Helper()
		if err := made.NoteVMM(used); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		note(false)
		note(false)
		note(true)
		note(true)
	}
	note(false)
	note(false)
	if _, err := made.VMM("kind"); err != nil {
		t.Fatalf("gone too soon: %v", err)
	}
	note(false)
	if _, err := made.VMM("kind"); !errdefs.IsNotFound(err) {
		t.Errorf("after three failures in a row: %v", err)
	}
	note(false)
	note(true)
}

func TestNoVMM(t *testing.T) {
	s := open(t)
	made := create(t, s, recipe("00000000000000cc", "booted"))
	for _, kind := range []string{"", "kind"} {
		if _, err := made.VMM(kind); !errdefs.IsNotFound(err) {
			t.Errorf("kind %q: %v", kind, err)
		}
	}
	if err := made.DropVMM(); err != nil {
		t.Error(err)
	}
}
