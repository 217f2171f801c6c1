package volume

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestDirect(t *testing.T) {
	dir, target, image := DirectDir(t.TempDir()), t.TempDir(), filepath.Join(t.TempDir(), "image")
	check(t, os.WriteFile(image, nil, 0o600))
	if all, err := ListDirect(dir); len(all) > 0 || err != nil {
		t.Errorf("before the first there are %v, %v", all, err)
	}
	want := Direct{Path: target, Source: image, FSType: "ext4", Options: []string{"noatime", "data=ordered"}, ReadOnly: true, FSGroup: 12}
	given := want
	given.Path += "/./"
	check(t, AddDirect(dir, given))
	if err := AddDirect(dir, want); !errdefs.IsAlreadyExists(err) {
		t.Errorf("once more: %v", err)
	}
	got, ok, err := FindDirect(dir, target+"/")
	if diff := cmp.Diff(want, got); diff != "" || !ok || err != nil {
		t.Errorf("%v %v %s", ok, err, diff)
	}
	if all, err := ListDirect(dir); len(all) != 1 || err != nil {
		t.Errorf("all are %v, %v", all, err)
	}
	if _, ok, err := FindDirect(dir, image); ok || err != nil {
		t.Errorf("another path: %v, %v", ok, err)
	}
	check(t, os.Remove(image))
	if _, _, err := FindDirect(dir, target); err == nil {
		t.Error("one whose file is gone is no error")
	}
	check(t, RemoveDirect(dir, target))
	if err := RemoveDirect(dir, target); !errdefs.IsNotFound(err) {
		t.Errorf("removed twice: %v", err)
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestDirectRefusals(t *testing.T) {
	target, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	check(t, os.WriteFile(image, nil, 0o600))
	for name, spoil := range map[string]func(*Direct){
		"relative directory": func(d *Direct) { d.Path = "x" },
		"relative source":    func(d *Direct) { d.Source = "x" },
		"file system":        func(d *Direct) { d.FSType = "btrfs" },
		"option":             func(d *Direct) { d.Options = []string{"a,b"} },
		"path in an option":  func(d *Direct) { d.Options = []string{"journal_path=/dev/sda"} },
		"no source":          func(d *Direct) { d.Source += "x" },
		"directory":          func(d *Direct) { d.Source = target },
		"terminal":           func(d *Direct) { d.Source = "/dev/null" },
		"no directory":       func(d *Direct) { d.Path = image },
	} {
		d := Direct{Path: target, Source: image, FSType: "ext4"}
		spoil(&d)
		if err := AddDirect(t.TempDir(), d); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}
