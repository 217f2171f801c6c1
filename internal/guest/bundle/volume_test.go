package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"dougong.dev/dougong/internal/idmap"
)

// volumes takes mounts through the guest's hands.
func volumes(t *testing.T, root string, mounts ...specs.Mount) ([]specs.Mount, error) {
	t.Helper()
	data, err := json.Marshal(specs.Spec{Process: &specs.Process{Args: []string{"true"}}, Mounts: mounts})
	if err != nil {
		t.Fatal(err)
	}
	s, err := parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.adaptVolumes(root, idmap.Map{}); err != nil {
		return nil, err
	}
	var got []specs.Mount
	return got, json.Unmarshal(s.rest[mountsField], &got)
}

func TestVolumesLookLikeTheImage(t *testing.T) {
	root := t.TempDir()
	for dir, mode := range map[string]os.FileMode{"data": 0o700, "open": 0o777 | os.ModeSticky} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(root, dir), mode); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(root, "data"), 33, 34); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/data", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	volume := func(path string, options ...string) specs.Mount {
		return specs.Mount{Destination: path, Type: "tmpfs", Source: "tmpfs", Options: options}
	}
	got, err := volumes(t, root,
		volume("/data", copyUp), volume("/open", "nodev", copyUp), volume("/link", copyUp), volume("/none", copyUp, "mode=0711"), volume("/tmp", "mode=1777"))
	if err != nil {
		t.Fatal(err)
	}
	want := []specs.Mount{
		volume("/data", "mode=0700", "uid=33", "gid=34", copyUp),
		volume("/open", "mode=1777", "uid=0", "gid=0", "nodev", copyUp),
		volume("/link", "mode=0700", "uid=33", "gid=34", copyUp),
		volume("/none", "mode=0755", copyUp, "mode=0711"),
		volume("/tmp", "mode=1777"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestVolumeOnAFile(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := volumes(t, root, specs.Mount{Destination: "/file", Type: "tmpfs", Options: []string{copyUp}})
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
}
