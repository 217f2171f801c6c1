package storage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dougong.dev/dougong/internal/mounttest"
)

// elsewhere is a mount namespace in which something is mounted that is not here.
func elsewhere(t *testing.T, place string) *os.File {
	t.Helper()
	cmd := exec.Command("sh", "-ec", `mount -t tmpfs none "$0"; echo there >"$0/file"; echo too >"$0/other"; mkdir "$0/below"; mount -t tmpfs none "$0/below"; echo deep >"$0/below/file"; echo; read -r _`, place)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = in.Close(), cmd.Wait() }()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestView(t *testing.T) {
	mounttest.Need(t)
	place, tree := t.TempDir(), newTree(t)
	view := NewView(elsewhere(t, place))
	t.Cleanup(func() {
		if err := view.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, tt := range map[string]struct {
		source, file, want string
		readOnly           bool
	}{
		"directory": {place, "file", "there\n", true},
		"below":     {place, "below/file", "deep\n", false},
		"file":      {filepath.Join(place, "other"), "", "too\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			e := bind("c1/"+name, tt.source, tt.readOnly, true)
			if err := tree.AddFrom(view, e); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(tree.Dir(), e.Name, tt.file)
			if got := content(path); got != tt.want {
				t.Errorf("the share has %q, want %q", got, tt.want)
			}
			if err := overwrite(path); (err == nil) == tt.readOnly {
				t.Errorf("writing ends with %v", err)
			}
			if err := tree.Remove(e); err != nil {
				t.Error(err)
			}
		})
	}
	if err := tree.AddFrom(view, bind("c1/none", filepath.Join(place, "none"), false, true)); err == nil {
		t.Error("a source that is not there is no error")
	}
	if got := content(filepath.Join(place, "file")); strings.Contains(got, "there") {
		t.Error("this process has been left elsewhere")
	}
}

func TestNoView(t *testing.T) {
	view := NewView(nil)
	if view != nil || view.Close() != nil {
		t.Error("nothing has become a view")
	}
	ran := false
	if err := view.Do(func() error { ran = true; return os.ErrClosed }); !errors.Is(err, os.ErrClosed) || !ran {
		t.Errorf("f has run: %v, and ends with %v", ran, err)
	}
}
