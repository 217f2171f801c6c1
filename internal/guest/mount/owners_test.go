package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	agent "dougong.dev/dougong/api/agent/v1"
	"dougong.dev/dougong/internal/hosttest"
)

// mapping maps as many ids from the first to the first.
func mapping(from, to, size uint32) []*agent.IDMapping {
	return []*agent.IDMapping{{ContainerId: from, GuestId: to, Size: size}}
}

// Of a mount whose owners are mapped there is one, and it is gone when it is
// unmounted.
func TestMountMapped(t *testing.T) {
	hosttest.NeedMappedOwners(t, t.TempDir())
	inNamespace(t, func(t *testing.T) {
		source, target := t.TempDir(), filepath.Join(t.TempDir(), "a")
		if err := errors.Join(os.WriteFile(filepath.Join(source, "file"), nil, 0o600), os.Chown(filepath.Join(source, "file"), 5, 6)); err != nil {
			t.Error(err)
			return
		}
		one := &agent.Mount{Type: "bind", Source: source, Target: target, Options: []string{"ro"}, Uids: mapping(0, 1000, 10), Gids: mapping(0, 2000, 10)}
		if err := New(nil).One(t.Context(), one); err != nil {
			t.Error(err)
			return
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(target, "file"), &st); err != nil || st.Uid != 1005 || st.Gid != 2006 {
			t.Errorf("the file belongs to %d:%d, %v", st.Uid, st.Gid, err)
		}
		if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("options are lost: %v", err)
		}
		if err := Unmount(target); err != nil {
			t.Error(err)
		}
		if err := Unmount(target); !errdefs.IsNotFound(err) {
			t.Errorf("something is left: %v", err)
		}
	})
}

func TestMountMappedRefused(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "a")
		for want, one := range map[string]*agent.Mount{
			"the file system (proc) cannot do that": {Type: "proc", Source: "proc", Uids: mapping(0, 1000, 10), Gids: mapping(0, 2000, 10)},
			"mapping of groups":                     {Type: "tmpfs", Source: "x", Uids: mapping(0, 1000, 10)},
			"mapping of users":                      {Type: "tmpfs", Source: "x", Uids: mapping(0, 1000, 0), Gids: mapping(0, 2000, 10)},
		} {
			one.Target = target
			if err := New(nil).One(t.Context(), one); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if err := Unmount(target); !errdefs.IsNotFound(err) {
				t.Errorf("%s: something is left: %v", want, err)
			}
		}
	})
}
