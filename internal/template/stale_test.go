package template

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStaleGoes removes templates of what is not there any more when another is
// made, and no others.
func TestStaleGoes(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"replaced": func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, "new"), []byte("kernel"), 0o600); err != nil {
				return err
			}
			return os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "kernel"))
		},
		"written to": func(dir string) error { return os.WriteFile(filepath.Join(dir, "kernel"), []byte("another"), 0o600) },
		"removed":    func(dir string) error { return os.Remove(filepath.Join(dir, "kernel")) },
		"link": func(dir string) error {
			if err := os.Remove(filepath.Join(dir, "current")); err != nil {
				return err
			}
			return os.Symlink("image2", filepath.Join(dir, "current"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, file := range []string{"kernel", "other"} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			// What it leads to need not be there.
			if err := os.Symlink("image1", filepath.Join(dir, "current")); err != nil {
				t.Fatal(err)
			}
			s := open(t)
			other := recipe(Key("other"), "memory")
			other.Files = []string{filepath.Join(dir, "other")}
			create(t, s, other)
			s.DependOn(filepath.Join(dir, "current"))
			old := recipe(Key("old"), "memory")
			old.Files = []string{filepath.Join(dir, "kernel")}
			if made := create(t, s, old); made.stale() != "" {
				t.Errorf("a new template is stale for %s", made.stale())
			}
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			next := recipe(Key("next"), "memory")
			next.Files = []string{filepath.Join(dir, "other")}
			create(t, s, next)
			kept := map[string]bool{}
			for _, key := range names(t, s) {
				kept[key] = true
			}
			if diff := cmp.Diff(map[string]bool{Key("other"): true, Key("next"): true}, kept); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFileThatIsNotThere(t *testing.T) {
	s := open(t)
	r := recipe(Key("x"), "memory")
	r.Files = []string{filepath.Join(t.TempDir(), "none")}
	if _, err := s.GetOrCreate(t.Context(), r); err == nil {
		t.Error("a template was made of nothing")
	}
}
