package container

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"dougong.dev/dougong/internal/idmap"
)

// Pipes are given to the user that a process is outside of its namespace.
func TestOwnersOfProcess(t *testing.T) {
	bundle := t.TempDir()
	for text, want := range map[string]idmap.Map{
		`{"process":{"args":["a"],"user":{"uid":5,"gid":6}}}`: {},
		`{"process":{"args":["a"],"user":{"uid":5,"gid":6}},"linux":{"uidMappings":[{"hostID":1000,"size":10}],"gidMappings":[{"hostID":2000,"size":10}]}}`: {UIDs: "0:1000:10", GIDs: "0:2000:10"},
	} {
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, owners, err := readProcess(bundle)
		if err != nil || owners != want || p.User.UID != 5 || p.User.GID != 6 {
			t.Errorf("%s gives %+v, %v, %v", text, p, owners, err)
		}
	}
	text := `{"process":{"args":["a"]},"linux":{"uidMappings":[{"hostID":1000,"size":10}]}}`
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readProcess(bundle); !errdefs.IsInvalidArgument(err) {
		t.Errorf("users alone give %v", err)
	}
}
