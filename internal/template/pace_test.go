package template

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSlowerThanBoot: the recipe's boot takes seven seconds.
func TestSlowerThanBoot(t *testing.T) {
	s := open(t)
	made := create(t, s, recipe(Key("a"), "a"))
	judge := func(want bool) {
		t.Helper()
		if took, slower := made.SlowerThanBoot(); slower != want {
			t.Errorf("slower: %v (%v), want %v", slower, took, want)
		}
	}
	for range paceWanted - 1 {
		made.NoteClone(time.Minute)
		judge(false)
	}
	made.NoteClone(time.Second)
	// Most of them are slow. Each judgement forgets one, and then it takes
	// another clone to judge again.
	judge(true)
	judge(false)
	for range 2 * paceKept {
		made.NoteClone(time.Second)
	}
	judge(false)
	for range paceKept {
		made.NoteClone(time.Minute)
	}
	for range paceKept - paceWanted + 1 {
		judge(true)
	}
	judge(false)
	if got, err := s.Get(made.Key); err != nil || got.BootTook != 7*time.Second {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestPaceIsNoMatter has nothing hang on the readings.
func TestPaceIsNoMatter(t *testing.T) {
	s := open(t)
	made := create(t, s, recipe(Key("a"), "a"))
	if err := os.WriteFile(filepath.Join(made.dir, filePace), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, slower := made.SlowerThanBoot(); slower {
		t.Error("nonsense was believed")
	}
	if err := s.Remove(made.Key); err != nil {
		t.Fatal(err)
	}
	made.NoteClone(time.Second)
	if left := names(t, s); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
