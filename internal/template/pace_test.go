package template

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// judge wants one judgement of a template.
func judge(t *testing.T, made *Template, want bool) {
	t.Helper()
	if clone, boot, yes := made.BootInstead(); yes != want {
		t.Errorf("boot instead: %v (%v against %v), want %v", yes, clone, boot, want)
	}
}

// TestBootInstead: the recipe's boot takes seven seconds, of which half is
// taken for that of a machine which is not saved.
func TestBootInstead(t *testing.T) {
	made := create(t, open(t), recipe(Key("a"), "a"))
	for range paceWanted - 1 {
		made.NoteClone(4 * time.Second)
		judge(t, made, false)
	}
	made.NoteClone(time.Second)
	// Most of them are slow. Each judgement forgets one, and then it takes
	// another clone to judge again.
	judge(t, made, true)
	judge(t, made, false)
	for range 2 * paceKept {
		made.NoteClone(time.Second)
	}
	judge(t, made, false)
	for range paceKept {
		made.NoteClone(time.Minute)
	}
	for range paceKept - paceWanted + 1 {
		judge(t, made, true)
	}
	judge(t, made, false)
}

// TestBusyMachine has clones and a boot be slow at the same time.
func TestBusyMachine(t *testing.T) {
	s := open(t)
	made := create(t, s, recipe(Key("a"), "a"))
	for range paceKept {
		made.NoteClone(time.Minute)
	}
	judge(t, made, true)
	made.NoteBoot(10 * time.Minute)
	judge(t, made, false)
	made.NoteBoot(time.Second)
	judge(t, made, true)
	if got, err := s.Get(made.Key); err != nil || got.BootTook != 7*time.Second {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestPaceIsNoMatter has nothing hang on the readings.
func TestPaceIsNoMatter(t *testing.T) {
	s := open(t)
	made := create(t, s, recipe(Key("a"), "a"))
	for _, nonsense := range []string{"nonsense", "[1,2]", `{"clones":["x"]}`, `{"boot":-1}`} {
		if err := os.WriteFile(filepath.Join(made.dir, filePace), []byte(nonsense), 0o600); err != nil {
			t.Fatal(err)
		}
		judge(t, made, false)
	}
	if err := s.Remove(made.Key); err != nil {
		t.Fatal(err)
	}
	made.NoteClone(time.Second)
	if left := names(t, s); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
