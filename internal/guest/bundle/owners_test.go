package bundle

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	agent "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/idmap"
)

func TestOwnersOfSpec(t *testing.T) {
	for text, want := range map[string]idmap.Map{
		`{"process":{"args":["a"]}}`:                        {},
		`{"process":{"args":["a"]},"linux":{"devices":[]}}`: {},
		`{"process":{"args":["a"]},"linux":{"uidMappings":[{"containerID":0,"hostID":1000,"size":10}],"gidMappings":[{"containerID":0,"hostID":2000,"size":10}]}}`: {UIDs: "0:1000:10", GIDs: "0:2000:10"},
	} {
		s, err := parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.owners(); got != want || err != nil {
			t.Errorf("%s gives %+v, %v", text, got, err)
		}
	}
	s, err := parse([]byte(`{"process":{"args":["a"]},"linux":{"uidMappings":[{"size":0}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.owners(); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a mapping of nothing gives %v", err)
	}
}

// Small files belong to the container's root, which may change them.
func TestFilesBelongToRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	b := &bundle{dir: t.TempDir()}
	if err := b.files([]*agent.File{{Name: "hosts", Content: []byte("x")}}, idmap.Map{UIDs: "0:1000:10", GIDs: "0:2000:10"}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(b.dir, "files/hosts"))
	if err != nil {
		t.Fatal(err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 1000 || st.Gid != 2000 || info.Mode() != 0o644 {
		t.Errorf("it is %v of %+v", info.Mode(), info.Sys())
	}
}

// A volume is mounted in the container's user namespace, which has names of its own
// for the image's owners.
func TestOwnerOptions(t *testing.T) {
	owners := idmap.Map{UIDs: "0:1000:10", GIDs: "0:2000:10"}
	for ids, want := range map[[2]uint32][]string{
		{1000, 2000}: {"uid=0", "gid=0"}, {1005, 2006}: {"uid=5", "gid=6"}, {1005, 0}: {"uid=5"}, {0, 0}: nil, {65534, 65534}: nil,
	} {
		if diff := cmp.Diff(want, ownerOptions(ids[0], ids[1], owners)); diff != "" {
			t.Errorf("%v: %s", ids, diff)
		}
	}
	if diff := cmp.Diff([]string{"uid=5", "gid=6"}, ownerOptions(5, 6, idmap.Map{})); diff != "" {
		t.Error(diff)
	}
}
